import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { demoDirectory } from '../../../src/commands/image.ts';
import { demoImageEntry } from '../../../src/image/demo/node-entry.ts';
import { parseNodeConfig } from '../../../src/node-file/read.ts';

it('the demo image goes where --out says, else below VMBATCH_CACHE, else below /var/cache', () => {
  expect(demoDirectory('here', { VMBATCH_CACHE: '/scratch' })).toBe('here');
  expect(demoDirectory(undefined, { VMBATCH_CACHE: '/scratch' })).toBe('/scratch/demo-image');
  expect(demoDirectory(undefined, { VMBATCH_CACHE: '' })).toBe('/var/cache/vmbatch/demo-image');
  expect(demoDirectory(undefined, {})).toBe('/var/cache/vmbatch/demo-image');
  expect(() => demoDirectory('', {})).toThrow('--out is empty');
});

it('the entry that build-demo prints is a valid part of a node file, with the paths of the example', () => {
  const entry = demoImageEntry('/var/cache/vmbatch/demo-image');
  const rest = 'queues: [vmalice]\nshare: { type: nfs, server: "10.0.2.2:/share", path: /shared }\n';
  const example = parse(readFileSync('share/examples/node.yaml', 'utf8'));
  const { path, boot } = example.images.demo;
  expect(parse(entry)).toEqual({ images: { demo: { path, boot } } });
  expect(parseNodeConfig(entry + rest, 'node.yaml').images.get('demo')).toMatchObject({
    path: '/var/cache/vmbatch/demo-image/template.qcow2',
    boot: { kernel: '/var/cache/vmbatch/demo-image/vmlinuz' },
  });
});
