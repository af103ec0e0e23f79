// Mistakes with what a node stands on: its disks, its mounts, its network, its clock. What is read first when
// a job comes, or of a check.
import { execFileSync } from 'node:child_process';
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

/** @returns what unmounts it */
function mount(node: NodeGround, name: string, ...words: string[]): () => void {
  execFileSync('mount', [...words, node.at(name)]);
  return () => void execFileSync('umount', ['-l', node.at(name)]);
}
/** A file system of its own, with what was there. */
function small(node: NodeGround, name: string): () => void {
  execFileSync('cp', ['-a', node.at(name), node.at('before')]);
  const takeBack = mount(node, name, '-t', 'tmpfs', '-o', 'size=8m,mode=711', 'tmpfs');
  execFileSync('cp', ['-a', `${node.at('before')}/.`, node.at(name)]);
  return takeBack;
}
function readOnly(node: NodeGround, name: string): () => void {
  const takeBack = mount(node, name, '--bind', node.at(name));
  execFileSync('mount', ['-o', 'remount,ro,bind', node.at(name)]);
  return takeBack;
}
/** Leaves so many bytes free. */
function fill(node: NodeGround, name: string, left: number): void {
  const { bavail, bsize } = statfsSync(node.at(name));
  writeFileSync(node.at(`${name}/filler`), Buffer.alloc(Math.max(0, bavail * bsize - left)));
}
const bridge = (node: NodeGround, name: string) =>
  node.configure({ network: { type: 'bridge', name, addressing: 'dhcp' } });

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'the state directory is on a file system that is read-only',
    plant: (node) => readOnly(node, 'state'),
    look,
    text: [/state.*(EROFS|read-only)/, /->/],
    exit: 3,
  },
  {
    mistake: 'the state directory is on a file system that became read-only, and jobs come',
    plant: (node) => readOnly(node, 'state'),
    look: logOfAStart(),
    text: /error .*state.*(EROFS|read-only)/,
    exit: 2,
  },
  {
    mistake: 'the disk of the state directory is full, and jobs come',
    plant: (node) => {
      const takeBack = small(node, 'state');
      node.configure({ disk: { free_floor: '0 MiB' } });
      fill(node, 'state', 0);
      return takeBack;
    },
    look: logOfAStart(),
    text: [/error .*ENOSPC.*\/state/, /make room on that disk/],
    exit: 2,
  },
  {
    mistake: 'the disk of the state directory is below its floor, and jobs come',
    plant: (node) => {
      const takeBack = small(node, 'state');
      node.configure({ disk: { free_floor: '1 GiB', wait: '1 s' } });
      return takeBack;
    },
    look: logOfAStart(),
    text: [/error .*state/, /disk\.free_floor/],
    exit: 2,
  },
  {
    mistake: 'the share is mounted read-only, and jobs come',
    plant: (node) => {
      node.remove('share/.vmbatch');
      return readOnly(node, 'share');
    },
    look: logOfAStart(),
    text: /error .*ready files to .*ready \(EROFS\).*the share is mounted read-only on this node/,
    exit: 2,
  },
  {
    mistake: 'the log directory is read-only',
    plant: (node) => {
      mkdirSync(node.at('log'), { recursive: true });
      return readOnly(node, 'log');
    },
    look,
    text: /log: .*log .*read-only/,
    exit: 3,
  },
  {
    mistake: 'the bridge is down',
    plant: (node) => {
      execFileSync('ip', ['link', 'add', 'vmbdown0', 'type', 'bridge']);
      bridge(node, 'vmbdown0');
      return () => void execFileSync('ip', ['link', 'del', 'vmbdown0']);
    },
    look,
    text: [/the bridge vmbdown0 is down/, /ip link set vmbdown0 up/],
    exit: 3,
  },
];

mistakes('what the node stands on', useNode('state'), ROWS);
