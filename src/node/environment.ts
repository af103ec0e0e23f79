// What the node's commands share: the node file, the hypervisor, the log.
import { mkdirSync } from 'node:fs';
import type { NodeConfig } from '../config/node.ts';
import type { Hypervisor } from '../hypervisor/port.ts';
import { openVirsh } from '../hypervisor/virsh.ts';
import { VmbatchError } from '../util/errors.ts';
import { type Log, openLog } from '../util/log.ts';
import { run } from '../util/run.ts';

export const DEFAULT_NODE_FILE = '/etc/vmbatch/node.yaml';

export interface NodeEnvironment {
  config: NodeConfig;
  hypervisor: Hypervisor;
  log: Log;
}

export async function openNode(config: NodeConfig, jobId: string): Promise<NodeEnvironment> {
  mkdirSync(config.log, { recursive: true, mode: 0o750 });
  return {
    config,
    hypervisor: openVirsh({ uri: config.hypervisor.uri, timeoutMs: config.timeouts.virshMs, run }),
    log: await openLog(config.log, jobId),
  };
}

/** Splits `--config FILE` from what follows; the hooks' own arguments may look like options. */
export function takeConfigOption(argv: readonly string[]): { file: string; rest: string[] } {
  if (argv[0] !== '--config') return { file: DEFAULT_NODE_FILE, rest: [...argv] };
  const [, file, ...rest] = argv;
  if (file === undefined)
    throw new VmbatchError({ fault: 'node', code: 'usage', message: '--config needs a file' });
  return { file, rest };
}
