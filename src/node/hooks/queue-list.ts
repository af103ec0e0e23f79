// The queues that this node serves, as a plain list: the shims answer for any other queue from it, without
// starting Node. Kept up by whoever reads the node file as root.
import { readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeConfig } from '../../node-file/read.ts';
import { writeFileAtomic } from '../../util/files/files.ts';
import { prepareState } from '../record.ts';

function queueListPath(state: string): string {
  return join(state, 'queues');
}

/** The list as it was last written; undefined if there is none. */
export function readQueueList(state: string): string[] | undefined {
  try {
    return readFileSync(queueListPath(state), 'utf8').split('\n').filter(Boolean);
  } catch {
    return undefined;
  }
}

/** Brings the list up to the node file, and makes it newer than that. */
export function writeQueueList(config: NodeConfig, configFile: string): void {
  const path = queueListPath(config.state);
  const list = `${config.queues.join('\n')}\n`;
  if (readQueueList(config.state)?.join('\n') !== config.queues.join('\n')) {
    prepareState(config.state);
    writeFileAtomic(path, list, 0o644);
    return;
  }
  const { mtimeMs } = statSync(configFile);
  if (statSync(path).mtimeMs > mtimeMs) return;
  const newer = new Date(Math.max(Date.now(), mtimeMs + 1_000));
  utimesSync(path, newer, newer);
}
