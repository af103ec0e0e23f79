// The queues that this node serves, as a plain list: the shims answer for any other queue from it, without
// starting Node. Kept up by whoever reads the node file as root.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeConfig } from '../config/node.ts';
import { writeFileAtomic } from '../util/files.ts';
import { prepareState } from './record.ts';

function queueListPath(state: string): string {
  return join(state, 'queues');
}

/** Writes the list; always, so that it is not older than the node file. */
export function writeQueueList(config: NodeConfig): void {
  prepareState(config.state);
  const path = queueListPath(config.state);
  const list = `${config.queues.join('\n')}\n`;
  if (process.geteuid?.() !== 0 && readFileSync(path, 'utf8') === list) return;
  writeFileAtomic(path, list, 0o644);
}
