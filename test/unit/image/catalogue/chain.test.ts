// An image is all the files that it consists of: what it stands on belongs to it, wherever somebody looks at
// it.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../../../src/commands/image.ts';
import { listImages } from '../../../../src/image/catalogue/list.ts';
import { knownHashes, mustBeGood, verifyImage } from '../../../../src/image/catalogue/verify.ts';
import { imageFiles, stateOf } from '../../../../src/image/chain.ts';
import { rememberedSha256 } from '../../../../src/image/hashes.ts';
import { resolveBacking } from '../../../../src/image/layer/backing.ts';
import { verifyInTime } from '../../../../src/node/admission/image-hashes.ts';
import { checkNode } from '../../../../src/node/check/check-node.ts';
import { loadNodeConfig } from '../../../../src/node-file/read.ts';
import { run } from '../../../../src/util/processes/run.ts';

let folder: string;
let output: string;
const at = (name: string) => join(folder, name);
const state = () => at('state');
const config = () => loadNodeConfig(at('node.yaml'));
const chosen = (name = 'top') => {
  const image = config().images.get(name);
  if (image === undefined) throw new Error(`no image ${name}`);
  return image;
};
const image = (...args: string[]) => main([...args, '--config', at('node.yaml')]);
const create = (name: string, ...args: string[]) =>
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, at(name), '1M'], { cwd: folder });
const files = (name: string, format: 'qcow2' | 'raw' = 'qcow2') =>
  imageFiles({ name: 'x', path: at(name), format });

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-chain-'));
  mkdirSync(state());
  writeFileSync(at('base.raw'), Buffer.alloc(1 << 20, 7));
  create('middle.qcow2', '-b', 'base.raw', '-F', 'raw');
  create('top.qcow2', '-b', at('middle.qcow2'), '-F', 'qcow2');
  create('plain.qcow2');
  writeFileSync(
    at('node.yaml'),
    `queues: [vmalice]
state: ${state()}
images: { plain: { path: ${at('plain.qcow2')} } }
share: { type: nfs, path: /share, server: "192.0.2.1:/x" }
`,
  );
  output = '';
  for (const stream of [process.stdout, process.stderr])
    vi.spyOn(stream, 'write').mockImplementation((text) => {
      output += String(text);
      return true;
    });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

describe('the files of an image', () => {
  it('are it and what it stands on, by names of either kind, down to the last', () => {
    expect(files('top.qcow2')).toEqual(['top.qcow2', 'middle.qcow2', 'base.raw'].map(at));
    expect(files('plain.qcow2')).toEqual([at('plain.qcow2')]);
    expect(files('base.raw', 'raw')).toEqual([at('base.raw')]);
  });

  it('go no further than what is said to be raw, whatever it holds', () => {
    create('guest-made.qcow2', '-b', at('base.raw'), '-F', 'raw');
    create('on-raw.qcow2', '-b', at('guest-made.qcow2'), '-F', 'raw');
    expect(files('on-raw.qcow2')).toEqual([at('on-raw.qcow2'), at('guest-made.qcow2')]);
  });

  it('include data that are kept outside of it', () => {
    create('outside.qcow2', '-o', `data_file=${at('data.raw')},data_file_raw=on`);
    expect(files('outside.qcow2')).toEqual([at('outside.qcow2'), at('data.raw')]);
  });

  it('cannot be told where one is missing, stands on itself, or is no file', () => {
    rmSync(at('base.raw'));
    expect(() => files('top.qcow2')).toThrow(
      /image x: .*base.raw, on which .*middle.qcow2 stands, cannot be read/,
    );
    execFileSync('qemu-img', ['rebase', '-u', '-b', at('top.qcow2'), '-F', 'qcow2', at('middle.qcow2')]);
    expect(() => files('top.qcow2')).toThrow('stands on itself');
    execFileSync('qemu-img', ['rebase', '-u', '-b', 'nbd://192.0.2.1/x', '-F', 'raw', at('top.qcow2')]);
    expect(() => files('top.qcow2')).toThrow('which is no file of this node');
  });
});

describe.runIf(process.getuid?.() === 0)('an image that stands on others', () => {
  const change = (name: string) => {
    const bytes = readFileSync(at(name));
    bytes.write('CHANGED', bytes.length - 10);
    writeFileSync(at(name), bytes);
  };

  it('is added with all of them, and listed so', async () => {
    await image('add', 'top', '--path', at('top.qcow2'));
    expect(chosen().backing?.map(({ path }) => path)).toEqual([at('middle.qcow2'), at('base.raw')]);
    expect(output).toContain(`stands on ${at('middle.qcow2')}, ${at('base.raw')}`);
    await image('list');
    expect(output).toContain(`${at('top.qcow2')} on ${at('middle.qcow2')} on ${at('base.raw')}`);
    expect(await image('verify', 'top')).toBe(0);
    expect(output).toContain('top: good: SHA-256 of 3 files');
  });

  it.each(['top.qcow2', 'middle.qcow2', 'base.raw'])(
    'is no more what it was when %s has changed',
    async (name) => {
      await image('add', 'top', '--path', at('top.qcow2'));
      change(name);
      expect(await image('verify', 'top')).toBe(3);
      expect(output).toContain(`${at(name)}`);
      expect(output).toContain('[image-changed]');
      const log = { write: () => undefined, close: async () => undefined };
      const start = verifyInTime(
        chosen(),
        state(),
        { signal: new AbortController().signal, log },
        () => 60_000,
      );
      await expect(start).rejects.toMatchObject({
        code: 'image-changed',
        message: expect.stringContaining(name),
      });
      const rows = await checkNode({
        configFile: at('node.yaml'),
        momDirectory: folder,
        vmbatch: at('vmbatch'),
        run,
      });
      expect(rows.find(({ found }) => found.startsWith('image top: '))).toMatchObject({ state: 'failed' });
    },
  );

  it('is not good where the node file says nothing of what it stands on, or says what is not so', async () => {
    await image('add', 'top', '--path', at('top.qcow2'));
    const { backing = [], ...top } = chosen();
    const verify = (said: typeof backing | undefined) =>
      verifyImage({ ...top, backing: said }, config().signatures);
    await expect(verify(undefined)).rejects.toMatchObject({ code: 'image-chain' });
    await expect(verify(backing.slice(1))).rejects.toMatchObject({ code: 'image-chain' });
    await expect(verify([...backing, { path: at('plain.qcow2'), sha256: '' }])).rejects.toMatchObject({
      code: 'image-changed',
    });
    await expect(verifyImage({ ...chosen(), signed: true }, config().signatures)).rejects.toThrow(
      'signature says nothing',
    );
  });

  it('is read once, and again when a file has changed; what nobody has read is said to be so', async () => {
    await image('add', 'top', '--path', at('top.qcow2'));
    expect(knownHashes(state(), chosen())).toBe('good');
    const { signal } = new AbortController();
    utimesSync(at('base.raw'), 1, 1);
    expect(knownHashes(state(), chosen())).toBe('unknown');
    const row = async () =>
      (
        await checkNode({ configFile: at('node.yaml'), momDirectory: folder, vmbatch: at('vmbatch'), run })
      ).find(({ found }) => found.startsWith('top: '));
    expect(await row()).toMatchObject({
      state: 'warning',
      found: expect.stringContaining('SHA-256 is not looked at'),
    });
    await mustBeGood(state(), chosen(), signal);
    expect(knownHashes(state(), chosen())).toBe('good');
    expect(await row()).toMatchObject({
      state: 'ok',
      found: expect.stringContaining('SHA-256 as it should be'),
    });
    // Another file under the old name, with its times.
    writeFileSync(at('new.raw'), Buffer.alloc(1 << 20, 8));
    utimesSync(at('new.raw'), 1, 1);
    renameSync(at('new.raw'), at('base.raw'));
    expect(rememberedSha256(state(), at('base.raw'))).toBeUndefined();
    await expect(mustBeGood(state(), chosen(), AbortSignal.abort())).rejects.toMatchObject({
      code: 'image-unread',
    });
    await expect(mustBeGood(state(), chosen(), signal)).rejects.toMatchObject({ code: 'image-changed' });
    expect(() => knownHashes(state(), chosen())).toThrow('base.raw');
  });

  it('has a layer for as long as nothing below it has changed', async () => {
    await image('add', 'top', '--path', at('top.qcow2'));
    const below = files('top.qcow2')
      .slice(1)
      .map((path) => stateOf(path));
    const { size, mtimeMs } = statSync(at('top.qcow2'));
    mkdirSync(at('state/layers/top'), { recursive: true });
    const layer = { version: 1, contents: '', madeAt: 1, disk: 'layer-1.qcow2', below };
    const base = { path: at('top.qcow2'), size, mtimeMs };
    writeFileSync(at('state/layers/top/layer-1.qcow2'), '');
    writeFileSync(at('state/layers/top/layer.json'), JSON.stringify({ ...layer, base }));
    expect(resolveBacking(state(), chosen()).path).toContain('layer-1.qcow2');
    expect(listImages(config()).map((row) => row.layer)).toEqual(['none', 'current']);
    change('middle.qcow2');
    expect(() => resolveBacking(state(), chosen())).toThrow(
      /middle.qcow2 is not what its layer .* was made on/,
    );
    expect(listImages(config()).map((row) => row.layer)).toEqual(['none', 'stale']);
  });

  it('keeps what it stands on from being deleted with another image', async () => {
    await image('add', 'top', '--path', at('top.qcow2'));
    await image('add', 'base', '--path', at('base.raw'), '--format', 'raw');
    await expect(image('remove', 'base', '--delete-file')).rejects.toMatchObject({ code: 'image-in-use' });
    expect(existsSync(at('base.raw'))).toBe(true);
  });
});
