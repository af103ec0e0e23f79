// Clocks that do not agree: what a node's log says when a job comes.
import { afterEach, beforeEach, vi } from 'vitest';
import { type FakeNode, fakeNode } from '../support/fake-node.ts';
import { type Mistake, mistakes, type Sight } from './table.ts';

let node: FakeNode;
beforeEach(async () => {
  node = await fakeNode();
});
afterEach(() => node.remove());

/** This node's clock is another than that of the share, which is the machine's. */
function shift(seconds: number): () => void {
  const now = Date.now.bind(Date);
  const spy = vi.spyOn(Date, 'now').mockImplementation(() => now() + seconds * 1000);
  return () => spy.mockRestore();
}

async function look({ start, logged }: FakeNode): Promise<Sight> {
  await start('7.clock');
  const text = logged.find((line) => /^(warn|error)/.test(line)) ?? '';
  return { where: 'vmbatch.log', text, exit: 0 };
}

const ROWS: Mistake<FakeNode>[] = [
  { mistake: 'none', plant: () => shift(20), look, text: /^$/, exit: 0 },
  {
    mistake: "the node's clock is two hours slow",
    plant: () => shift(-7200),
    look,
    text: /^warn: the clock of the share .*share.* is 120 min ahead of this node's: have NTP set both/,
    exit: 0,
  },
  {
    mistake: "the node's clock is five minutes fast",
    plant: () => shift(300),
    look,
    text: /^warn: the clock of the share .* is 300 s behind this node's: have NTP set both/,
    exit: 0,
  },
];

mistakes('clocks', () => node, ROWS);
