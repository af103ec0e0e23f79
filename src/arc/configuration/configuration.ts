// A-REX's preprocessed configuration (the file after --config): the options that we read, typed.
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { GUEST_OVERHEAD_BYTES } from '../../util/values.ts';
import type { RuntimeVariables } from '../arc-shell.ts';
import { configVariables } from '../arc-shell.ts';
import { type Option, parseBlocks, type Report, refuseOption } from '../ini.ts';
import { parseNodeRequest } from '../node-request.ts';
import { decodeBytes, encodeBytes } from '../text.ts';
import { type QueueOptions, readCustomOptions } from './custom-options.ts';

/** What vmbatch takes from a CE's configuration. Paths are text. */
export interface ArcConfiguration {
  /** The file, for error messages. */
  file: string;
  /** Second word of `[lrms] lrms = vmbatch QUEUE`; undefined if there is none. */
  defaultQueue: string | undefined;
  /** `[common] hostname`; else what the system says. */
  hostname: string;
  /** `[lrms] pbs_bin_path`. A-REX fills in its default, `/usr/bin`; undefined, the programs are looked up in
   * PATH. */
  pbsBinPath: string | undefined;
  /** `[lrms] pbs_log_path`: directory of the server logs. */
  pbsLogPath: string | undefined;
  /** `[arex] controldir`. */
  controlDirectory: string | undefined;
  /** `[arex] shared_filesystem`: whether guests see the session directories. Default yes. */
  sharedFilesystem: boolean;
  /** `[arex] scratchdir`: where jobs run in their guests; a path there, or one that begins with a variable
   * there. */
  scratchDirectory: string | undefined;
  /** `[arex] shared_scratch`: where the CE sees that. */
  sharedScratch: string | undefined;
  /** `[arex] runtimedir`. */
  runtimeDirectory: string | undefined;
  /** `[lrms] movetool`: a command with its options, words apart by blanks. Default `mv`. */
  moveTool: string;
  /** `[lrms] nodename`: shell text, prints the guest's name where TORQUE says none. Default
   * `/bin/hostname -f`. */
  nodeNameCommand: string;
  /** `[lrms] gnu_time`: GNU time in the guest. Default `/usr/bin/time`. */
  gnuTime: string;
  /** `[lrms] pbs_dedicated_node_string`: the property of nodes that serve the grid. */
  dedicatedNodeString: string | undefined;
  /** `[common] perflogdir`, default `/var/log/arc/perfdata`; undefined unless `[common]
   * enable_perflog_reporting=expert-debug-on`. */
  perflogDirectory: string | undefined;
  /** `[custom:vmbatch] submit_patience`: how long a submission waits for a full queue or a server that is
   * away. Default 40 min. */
  submitPatienceMs: number;
  /** Names of the `[queue:NAME]` blocks. */
  queues: string[];
  /** What holds for jobs of a queue; of one without a block, or undefined, what holds for all. */
  queue: (name: string | undefined) => QueueConfiguration;
  /** What ARC's scripts have of this file as `CONFIG_*` variables, for a job of a queue. Byte strings. */
  configVariables: (queue: string | undefined) => RuntimeVariables;
}

/** What holds for the jobs of a queue: its `[queue:NAME]` block, then `[lrms]`; its line in
 * `[custom:vmbatch]`, then that block's plain keys. */
export interface QueueConfiguration {
  /** `defaultmemory`: MB for each slot of a job that does not say. */
  defaultMemory: number | undefined;
  /** `pbs_queue_node`: what each of the job's nodes must have. */
  nodeProperties: readonly string[];
  /** Its `ppn=N`: slots that a job gets on each node, if it does not ask for more. */
  slotsPerNode: number | undefined;
  /** `nodememory`: MB that a node has for jobs. */
  nodeMemory: number | undefined;
  /** `benchmark`, the first one, as `.diag` wants it. Default `HEPSPEC:1.0`. */
  benchmark: string;
  /** The image of jobs that ask for none; undefined: the node's default. */
  image: string | undefined;
  /** What a job may choose from; `image` is the first of them. */
  images: readonly string[];
  /** CernVM-FS repositories. */
  repositories: readonly string[];
  maxVcpus: number | undefined;
  /** Of the whole guest. */
  maxMemoryBytes: number | undefined;
  /** What a guest gets beside its job's memory, for its kernel and services. Default 128 MiB. */
  memoryOverheadBytes: number;
}

const QUEUE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** As TORQUE lets nodes have them; several have colons between them. */
const NODE_PROPERTIES = /^[A-Za-z0-9][A-Za-z0-9_.=-]*(:[A-Za-z0-9][A-Za-z0-9_.=-]*)*$/;
const PROPERTIES_RULE = 'node properties with colons between them';
const SLOTS_RULE = 'node properties and ppn=SLOTS, such as ppn=4:ib, without a number of nodes';
/** Printable, without what a shell would do something with other than taking words apart. */
const COMMAND = /^[A-Za-z0-9_./+=:,@%~-]+([ \t]+[A-Za-z0-9_./+=:,@%~-]+)*$/;
const DEFAULT_PATIENCE_MS = 40 * 60_000;

const raise: Report = (problem) => {
  throw problem;
};

/** Reads and checks the file that A-REX names with `--config`.
 * @throws VmbatchError `site`, naming file, line, key, found value and what is allowed. */
export function loadArcConfiguration(file: string): ArcConfiguration {
  return parseArcConfiguration(readConfiguration(file), file);
}

/** The same for commands that look after jobs which are there already: a mistake in an option must not keep
 * them from it, so what is wrong is left out.
 * @param log gets one line for each problem
 * @throws VmbatchError `site` only if the file cannot be read */
export function loadArcConfigurationLeniently(file: string, log: (line: string) => void): ArcConfiguration {
  return parseArcConfiguration(readConfiguration(file), file, ({ message }) => log(`ignored: ${message}`));
}

function readConfiguration(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'configuration-unreadable',
      message: `${file}: the configuration cannot be read (${errnoOf(error) ?? 'unknown error'})`,
      hint: 'A-REX passes it as --config CONF: its preprocessed file, such as /run/arched-arex.cfg',
      cause: error,
    });
  }
}

/** What ARC's job script and the stage 0 of runtime environments begin with; empty where ARC's would be. Byte
 * strings. Mirrors ARC: `RUNTIME_NODE_SEES_FRONTEND` is empty for "no". */
export function initialVariables(configuration: InitialConfiguration): RuntimeVariables {
  return new Map(
    Object.entries({
      RUNTIME_CONFIG_DIR: configuration.runtimeDirectory ?? '',
      RUNTIME_FRONTEND_SEES_NODE: configuration.sharedScratch ?? '',
      RUNTIME_NODE_SEES_FRONTEND: configuration.sharedFilesystem ? 'yes' : '',
      RUNTIME_LOCAL_SCRATCH_DIR: configuration.scratchDirectory ?? '',
      RUNTIME_LOCAL_SCRATCH_MOVE_TOOL: configuration.moveTool,
      GNU_TIME: configuration.gnuTime,
      NODENAME: configuration.nodeNameCommand,
    }).map(([name, value]) => [name, encodeBytes(value)]),
  );
}

type InitialConfiguration = Pick<
  ArcConfiguration,
  | 'runtimeDirectory'
  | 'sharedFilesystem'
  | 'scratchDirectory'
  | 'sharedScratch'
  | 'moveTool'
  | 'gnuTime'
  | 'nodeNameCommand'
>;

/** @param text the file's bytes as latin1
 * @param report told of each problem; if it returns, the option is taken as not given
 * @throws VmbatchError as `loadArcConfiguration`, unless `report` does otherwise */
export function parseArcConfiguration(text: string, file: string, report = raise): ArcConfiguration {
  const blocks = parseBlocks(text, file, report);
  const one = (block: string, key: string): Option | undefined => {
    const option = blocks.get(block)?.get(key)?.at(-1);
    return option === undefined || option.value === '' ? undefined : option;
  };
  /** The option as text, if it is as it must be. */
  const checked = (block: string, key: string, pattern: RegExp, allowed: string): string | undefined => {
    const option = one(block, key);
    if (option === undefined) return undefined;
    if (pattern.test(option.value)) return decodeBytes(option.value);
    report(refuseOption(file, option.line, `[${block}] ${key}`, option.value, allowed));
    return undefined;
  };
  const path = (block: string, key: string) => checked(block, key, /^\//, 'an absolute path');
  const command = (block: string, key: string) =>
    checked(
      block,
      key,
      COMMAND,
      'a command with options, without quotes and other signs that a shell acts upon',
    );
  const number = (block: string, key: string): number | undefined => {
    const value = checked(block, key, /^[0-9]{1,9}$/, 'a whole number (MB)');
    return value === undefined ? undefined : Number(value);
  };

  const queues = [...blocks.keys()]
    .filter((block) => block.startsWith('queue:'))
    .map((block) => block.slice(6));
  const custom = readCustomOptions(blocks.get('custom:vmbatch'), queues, file, report);
  const benchmark = (block: string) => {
    const value = blocks.get(block)?.get('benchmark')?.[0]?.value;
    return value === '' ? undefined : value?.replaceAll(/[ \t]+/g, ':');
  };
  const nodeRequest = (block: string) => {
    const option = one(block, 'pbs_queue_node');
    const request = option === undefined ? undefined : parseNodeRequest(option.value);
    if (option !== undefined && request === undefined) {
      const rule = NODE_PROPERTIES.test(option.value) ? SLOTS_RULE : PROPERTIES_RULE;
      report(refuseOption(file, option.line, `[${block}] pbs_queue_node`, option.value, rule));
    }
    return request;
  };
  const ofBlock = (block: string) => ({
    defaultMemory: number(block, 'defaultmemory'),
    nodeRequest: nodeRequest(block),
    nodeMemory: number(block, 'nodememory'),
    benchmark: benchmark(block),
  });
  // All of them now: a mistake is told before any job meets it.
  const ofQueues = new Map(queues.map((name) => [name, ofBlock(`queue:${name}`)]));
  const defaultMemory = number('lrms', 'defaultmemory');
  const perflog = one('common', 'enable_perflog_reporting')?.value === 'expert-debug-on';

  return {
    file,
    defaultQueue: defaultQueue(one('lrms', 'lrms'), file, report),
    hostname: checked('common', 'hostname', /^[A-Za-z0-9._:-]+$/, "a machine's name") ?? hostname(),
    pbsBinPath: path('lrms', 'pbs_bin_path'),
    pbsLogPath: path('lrms', 'pbs_log_path'),
    controlDirectory: path('arex', 'controldir'),
    sharedFilesystem: checked('arex', 'shared_filesystem', /^(yes|no)$/, '"yes" or "no"') !== 'no',
    scratchDirectory: checked(
      'arex',
      'scratchdir',
      /^(\/|\$\{?[A-Za-z_])/,
      'an absolute path, or one that begins with a variable such as $TMPDIR',
    ),
    sharedScratch: path('arex', 'shared_scratch'),
    runtimeDirectory: one('arex', 'runtimedir') && decodeBytes(one('arex', 'runtimedir')?.value ?? ''),
    moveTool: command('lrms', 'movetool') ?? 'mv',
    nodeNameCommand: checked('lrms', 'nodename', /./, 'a command') ?? '/bin/hostname -f',
    gnuTime: path('lrms', 'gnu_time') ?? '/usr/bin/time',
    dedicatedNodeString: checked('lrms', 'pbs_dedicated_node_string', NODE_PROPERTIES, 'a node property'),
    perflogDirectory: perflog ? (path('common', 'perflogdir') ?? '/var/log/arc/perfdata') : undefined,
    submitPatienceMs: custom.submitPatienceMs ?? DEFAULT_PATIENCE_MS,
    queues,
    configVariables: (queue) => configVariables(blocks, queue),
    queue: (name) => {
      const own = name === undefined ? undefined : ofQueues.get(name);
      const options: QueueOptions = {
        ...custom.all,
        ...(name === undefined ? {} : custom.queues.get(name)),
      };
      const { image } = options;
      return {
        defaultMemory: own?.defaultMemory ?? defaultMemory,
        nodeProperties: own?.nodeRequest?.properties ?? [],
        slotsPerNode: own?.nodeRequest?.slots,
        nodeMemory: own?.nodeMemory,
        benchmark: own?.benchmark ?? benchmark('lrms') ?? 'HEPSPEC:1.0',
        image,
        images: [...new Set([...(image === undefined ? [] : [image]), ...(options.images ?? [])])],
        repositories: options.repositories ?? [],
        maxVcpus: options.maxVcpus,
        maxMemoryBytes: options.maxMemoryBytes,
        memoryOverheadBytes: options.memoryOverheadBytes ?? GUEST_OVERHEAD_BYTES,
      };
    },
  };
}

function defaultQueue(lrms: Option | undefined, file: string, report: Report): string | undefined {
  if (lrms === undefined) {
    report(
      new VmbatchError({
        fault: 'site',
        code: 'configuration-invalid',
        message: `${file}: [lrms] lrms is missing; it must be "vmbatch QUEUE"`,
      }),
    );
    return undefined;
  }
  const [name, queue, ...rest] = lrms.value.split(/[ \t]+/);
  if (name === 'vmbatch' && rest.length === 0 && (queue === undefined || QUEUE_NAME.test(queue)))
    return queue;
  report(refuseOption(file, lrms.line, '[lrms] lrms', lrms.value, '"vmbatch QUEUE"'));
  return undefined;
}
