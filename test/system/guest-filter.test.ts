// The filter that we give admins (share/examples/guests.nft): what guests reach of the node with it. In
// network namespaces.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const example = new URL('../../share/examples/guests.nft', import.meta.url).pathname;
const NODE = `vmb-${process.pid}-n`;
const GUEST = `vmb-${process.pid}-g`;
const NOBODY = 65534;
let directory: string;
const servers: ChildProcess[] = [];

function must(file: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`);
}
const inside = (namespace: string, ...words: string[]) => ['netns', 'exec', namespace, ...words];

/** What a program in a namespace gets when it connects: `open` or an error's name. */
function connects(namespace: string, address: string, port: number, uid = 0): string {
  const program = `
    if (${uid} > 0) { process.setgid(${uid}); process.setuid(${uid}); }
    const socket = require('node:net').connect(${port}, '${address}');
    const end = (word) => { process.stdout.write(word); process.exit(); };
    socket.on('connect', () => end('open'));
    socket.on('error', (error) => end(error.code));
    setTimeout(() => end('silence'), 3000);`;
  return spawnSync('ip', inside(namespace, process.execPath, '-e', program), { encoding: 'utf8' }).stdout;
}

async function listen(namespace: string, port: number): Promise<void> {
  const program = `require('node:net').createServer((socket) => socket.on('error', () => undefined)).listen({ port: ${port}, host: '0.0.0.0' }, () => console.log('listens'))`;
  const server = spawn('ip', inside(namespace, process.execPath, '-e', program), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  servers.push(server);
  await new Promise((resolve) => server.stdout?.once('data', resolve));
}

describe.runIf(process.getuid?.() === 0)('the filter for guests', () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-filter-'));
    for (const name of [NODE, GUEST]) {
      must('ip', 'netns', 'add', name);
      must('ip', '-n', name, 'link', 'set', 'lo', 'up');
    }
    must('ip', '-n', NODE, 'link', 'add', 'br0', 'type', 'bridge');
    must('ip', '-n', NODE, 'link', 'add', 'tap0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', GUEST);
    must('ip', '-n', NODE, 'link', 'set', 'tap0', 'master', 'br0', 'up');
    must('ip', '-n', NODE, 'addr', 'add', '192.0.2.1/24', 'dev', 'br0');
    must('ip', '-n', NODE, 'link', 'set', 'br0', 'up');
    must('ip', '-n', GUEST, 'addr', 'add', '192.0.2.7/24', 'dev', 'eth0');
    must('ip', '-n', GUEST, 'link', 'set', 'eth0', 'up');
    // The mom's port, the NFS server's, and a guest's own SSH server.
    await listen(NODE, 15002);
    await listen(NODE, 2049);
    await listen(GUEST, 22);
    expect(connects(GUEST, '192.0.2.1', 15002)).toBe('open');
    const rules = join(directory, 'guests.nft');
    writeFileSync(rules, readFileSync(example, 'utf8').replace('"libvirt-qemu"', String(NOBODY)));
    must('ip', ...inside(NODE, 'nft', '-f', rules));
    // And again: it replaces itself.
    must('ip', ...inside(NODE, 'nft', '-f', rules));
  }, 60_000);
  afterAll(() => {
    for (const server of servers) server.kill('SIGKILL');
    for (const name of [NODE, GUEST]) spawnSync('ip', ['netns', 'del', name]);
    rmSync(directory, { recursive: true, force: true });
  });

  it('lets them reach the share, and nothing else of the node', () => {
    expect(connects(GUEST, '192.0.2.1', 2049)).toBe('open');
    expect(connects(GUEST, '192.0.2.1', 15002)).not.toBe('open');
  });

  it('lets the node reach them', () => {
    expect(connects(NODE, '192.0.2.7', 22)).toBe('open');
  });

  it('keeps guests on QEMU’s user network from the node’s loopback, but not from the share', () => {
    expect(connects(NODE, '127.0.0.1', 2049, NOBODY)).toBe('open');
    expect(connects(NODE, '127.0.0.1', 15002, NOBODY)).not.toBe('open');
    expect(connects(NODE, '127.0.0.1', 15002)).toBe('open');
  });
});
