// What commands do when nobody reads what they print, or when it cannot be written.
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { resourcePath } from '../../../src/util/program/resources.ts';

const COMMANDS = ['--help', 'check node', 'image list', 'info --help', 'hooks --help', 'node --help'];

function call(line: string) {
  const words = ['-c', line, 'sh', process.execPath, resourcePath('dist/vmbatch')];
  return spawnSync('/bin/bash', words, { encoding: 'utf8' });
}

it.each(COMMANDS.slice(0, 4))("'%s' that cannot be written shows no stack, and fails", (command) => {
  const { status, stderr } = call(`"$1" "$2" ${command} >/dev/full`);
  expect(status).toBeGreaterThan(0);
  expect(stderr).not.toMatch(/^ +at |Node\.js v/m);
});

it.each(COMMANDS)("'%s' whose reader goes away says nothing of it", (command) => {
  const { stderr } = call(`{ sleep 0.1; "$1" "$2" ${command}; } | true`);
  expect(stderr).not.toMatch(/^ +at |EPIPE|Node\.js v/m);
});
