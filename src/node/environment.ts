// What the node's commands share: their options, the hypervisor and the log.
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import type { Hypervisor } from '../hypervisor/port.ts';
import { openVirsh } from '../hypervisor/virsh.ts';
import { BUILT_IN_DEFAULTS } from '../node-file/config.ts';
import { loadNodeConfig, type NodeConfig } from '../node-file/read.ts';
import { errnoOf, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { type Log, type LogSink, openLogFiles, plainLog, printable, textOf } from '../util/log.ts';
import { run } from '../util/processes/run.ts';
import { readInstalled } from './installed.ts';
import {
  type CountedLog,
  type CountedUnit,
  countedLog,
  needsSettling,
  settleRepeats,
} from './repeats/counted-log.ts';
import { repeatsDirectory } from './repeats/memory.ts';

export const DEFAULT_NODE_FILE = '/etc/vmbatch/node.yaml';

/** What stands before a hook's own arguments, which may look like options. */
export interface HookOptions {
  configFile: string;
  /** The state directory that the shims were installed for. */
  state: string;
  /** One of the other nodes of a job on several, by its number as the mom gives it; `isStart`:
   * prologue.parallel itself, not what it has started in the background. */
  peer: { rank: string; isStart: boolean } | undefined;
  rest: string[];
}

export function takeHookOptions(argv: readonly string[]): HookOptions {
  const options: HookOptions = {
    configFile: DEFAULT_NODE_FILE,
    state: BUILT_IN_DEFAULTS.state,
    peer: undefined,
    rest: [...argv],
  };
  for (;;) {
    const [name, value] = options.rest;
    if (name === undefined || !['--config', '--state', '--parallel', '--peer'].includes(name)) return options;
    if (value === undefined)
      throw new VmbatchError({ fault: 'node', code: 'usage', message: `${name} needs a value` });
    if (name === '--config') options.configFile = value;
    else if (name === '--state') options.state = value;
    else options.peer = { rank: value, isStart: name === '--parallel' };
    options.rest.splice(0, 2);
  }
}

/** The state directory that a node file names; without a node file, where it is by default. */
export function stateOf(configFile: string): string {
  return existsSync(configFile) ? loadNodeConfig(configFile).state : BUILT_IN_DEFAULTS.state;
}

/** Opens the log; where that is impossible, the log of the system has its lines. */
export async function openNodeLog(directory: string, job: string): Promise<Log> {
  return plainLog(await openSink(directory), job);
}

/** A log of somebody who may have to say the same again and again.
 * @param directory of the log; undefined: the log of the system */
export async function openCountedLog(
  directory: string | undefined,
  { job, state, unit }: { job: string; state: string; unit: CountedUnit },
): Promise<CountedLog> {
  const sink = directory === undefined ? systemSink() : await openSink(directory);
  return countedLog(sink, { job, unit, directory: repeatsDirectory(state, directory) });
}

/** The log of a hook. For what goes wrong before the node file has told where that is: the directory of the
 * last node file that could be read, else the log of the system. */
export function openHookLog(
  config: Pick<NodeConfig, 'log'> | undefined,
  { job, state }: { job: string; state: string },
): Promise<CountedLog> {
  const directory = config === undefined ? readInstalled(state).log : config.log;
  return openCountedLog(directory, { job, state, unit: 'run' });
}

/** Tells how often what no longer comes has come, and forgets it. */
export async function settleLog(directory: string, state: string): Promise<void> {
  const place = repeatsDirectory(state, undefined);
  if (place === undefined || !needsSettling(place)) return;
  const sink = await openSink(directory);
  settleRepeats(place, sink);
  await sink.close();
}

async function openSink(directory: string): Promise<LogSink> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
    accessSync(directory, constants.W_OK);
    return await openLogFiles(directory);
  } catch (error) {
    const why = errnoOf(error) ?? toVmbatchError(error, 'node').message;
    process.stderr.write(`vmbatch: no log in ${directory} (${why}): is log in the node file right?\n`);
    return systemSink();
  }
}

/** syslog, by way of logger. */
function systemSink(): LogSink {
  const priorities = { error: 'err', warn: 'warning', info: 'info', debug: 'debug' };
  const running: Promise<unknown>[] = [];
  return {
    write(line) {
      const text = printable(`${line.job} ${textOf(line)}`).slice(0, 4000);
      const words = ['-t', 'vmbatch', '-p', `daemon.${priorities[line.level]}`, '--', text];
      // Where there is no logger either, the hook goes on without.
      running.push(run('logger', words, { timeoutMs: 5_000 }).catch(() => undefined));
    },
    close: async () => {
      await Promise.all(running);
    },
  };
}

export function openHypervisor(uri: string, timeoutMs: number): Hypervisor {
  return openVirsh({ uri, timeoutMs, run });
}
