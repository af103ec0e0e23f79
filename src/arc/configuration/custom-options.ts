// [custom:vmbatch], the only block of arc.conf that A-REX leaves to us: its options, as a table, for all
// queues and for one.

import { VmbatchError } from '../../util/errors.ts';
import { DURATION_RULE, parseDuration, parseSize, SIZE_RULE } from '../../util/units.ts';
import {
  IMAGE_NAME_RULE,
  isImageName,
  nearestName,
  parseRepositories,
  REPOSITORIES_RULE,
} from '../../util/values.ts';
import { type Block, type Option, type Report, refuseOption } from '../ini.ts';
import { showBytes } from '../text.ts';

/** What can be said for all queues as a key of its own (`image = NAME`), and for one queue in its line
 * (`queue = NAME image=NAME max_vcpus=8`), which then wins. */
export interface QueueOptions {
  /** `image`: of jobs that ask for none. Undefined: the node's default. */
  image?: string;
  /** `images`: what a job may choose from; the default image need not be among them. */
  images?: readonly string[];
  /** `repositories`: of CernVM-FS, which each guest of the queue gets. */
  repositories?: readonly string[];
  /** `max_vcpus`: the largest guest, in virtual CPUs. */
  maxVcpus?: number;
  /** `max_memory`: the largest guest, in bytes, overhead included. */
  maxMemoryBytes?: number;
  /** `memory_overhead`: what a guest gets beside its job's memory, in bytes. */
  memoryOverheadBytes?: number;
}

/** The block, checked. */
export interface CustomOptions {
  all: QueueOptions;
  queues: ReadonlyMap<string, QueueOptions>;
  /** `submit_patience`, in milliseconds. */
  submitPatienceMs: number | undefined;
}

/** One option: what is allowed, and what a value sets; undefined if the value is not allowed. */
interface OptionRule {
  allowed: string;
  read: (value: string) => QueueOptions | undefined;
}

const MAX_IMAGES = 64;
/** The least that a node gives to a guest. */
const LEAST_MEMORY = 64 * 1024 ** 2;

const QUEUE_OPTIONS: Readonly<Record<string, OptionRule>> = {
  image: { allowed: IMAGE_NAME_RULE, read: (value) => (isImageName(value) ? { image: value } : undefined) },
  images: {
    allowed: `names of images with commas and no blanks, at most ${MAX_IMAGES}; each ${IMAGE_NAME_RULE}`,
    read: (value) => {
      const images = value.split(',');
      return images.length <= MAX_IMAGES && images.every(isImageName) ? { images } : undefined;
    },
  },
  repositories: {
    allowed: REPOSITORIES_RULE,
    read: (value) => {
      const repositories = parseRepositories(value);
      return repositories && { repositories };
    },
  },
  max_vcpus: {
    allowed: 'a whole number from 1 to 9999',
    read: (value) => (/^[1-9][0-9]{0,3}$/.test(value) ? { maxVcpus: Number(value) } : undefined),
  },
  max_memory: {
    allowed: `${SIZE_RULE}; at least 64 MiB`,
    read: (value) => {
      const bytes = parseSize(value);
      return bytes === undefined || bytes < LEAST_MEMORY ? undefined : { maxMemoryBytes: bytes };
    },
  },
  memory_overhead: {
    allowed: SIZE_RULE,
    read: (value) => {
      const bytes = parseSize(value);
      return bytes === undefined ? undefined : { memoryOverheadBytes: bytes };
    },
  },
};

/** A-REX takes a submission for failed after an hour; less than that leaves it time to hear of it. */
const MOST_PATIENCE_MS = 50 * 60_000;
const PATIENCE_RULE = `${DURATION_RULE}; at most 50 min`;
const KEYS = [...Object.keys(QUEUE_OPTIONS), 'queue', 'submit_patience'];

/** @param block undefined: the file has none
 * @param queues the names of the `[queue:NAME]` blocks: a line for another queue is a slip
 * @param report told of each problem: unknown key (with the nearest name), a key given twice, a value that is
 * not allowed */
export function readCustomOptions(
  block: Block | undefined,
  queues: readonly string[],
  file: string,
  report: Report,
): CustomOptions {
  const all: QueueOptions = {};
  const ofQueues = new Map<string, QueueOptions>();
  const queueLines = new Map<string, number>();
  let submitPatienceMs: number | undefined;
  for (const [key, options] of block ?? []) {
    const [first, second] = options;
    if (first === undefined) continue;
    if (key === 'queue') {
      for (const option of options)
        readQueueLine(option, queues, { ofQueues, lines: queueLines }, file, report);
      continue;
    }
    const name = `[custom:vmbatch] ${key}`;
    const rule = Object.hasOwn(QUEUE_OPTIONS, key) ? QUEUE_OPTIONS[key] : undefined;
    if (rule === undefined && key !== 'submit_patience')
      report(unknownOption(file, first.line, '[custom:vmbatch]', key, KEYS));
    else if (second !== undefined)
      report(refuseOption(file, second.line, name, second.value, `given once (also in line ${first.line})`));
    else if (rule !== undefined) setOption(all, rule, first.value, file, first.line, name, report);
    else {
      const patience = parseDuration(first.value);
      if (patience === undefined || patience > MOST_PATIENCE_MS)
        report(refuseOption(file, first.line, name, first.value, PATIENCE_RULE));
      else submitPatienceMs = patience;
    }
  }
  return { all, queues: ofQueues, submitPatienceMs };
}

/** `queue = NAME key=value key=value ...` */
function readQueueLine(
  { value, line }: Option,
  queues: readonly string[],
  { ofQueues, lines }: { ofQueues: Map<string, QueueOptions>; lines: Map<string, number> },
  file: string,
  report: Report,
): void {
  const [queue = '', ...words] = value.split(/[ \t]+/);
  const name = '[custom:vmbatch] queue';
  if (!queues.includes(queue)) {
    const meant = nearestName(queue, queues);
    const allowed = `a queue that has a [queue:NAME] block${meant === undefined ? '' : ` (did you mean ${meant}?)`}, then key=value ...; there are: ${queues.join(', ') || 'none'}`;
    report(refuseOption(file, line, name, queue, allowed));
    return;
  }
  const earlier = lines.get(queue);
  if (earlier !== undefined) {
    report(refuseOption(file, line, name, queue, `one line for each queue (also in line ${earlier})`));
    return;
  }
  lines.set(queue, line);
  const options: QueueOptions = {};
  ofQueues.set(queue, options);
  const seen = new Set<string>();
  for (const word of words) {
    const key = word.slice(0, Math.max(0, word.indexOf('=')));
    const rule = Object.hasOwn(QUEUE_OPTIONS, key) ? QUEUE_OPTIONS[key] : undefined;
    if (key === '')
      report(refuseOption(file, line, `${name} ${queue}`, word, 'key=value, without blanks in it'));
    else if (rule === undefined)
      report(unknownOption(file, line, `${name} ${queue}`, key, Object.keys(QUEUE_OPTIONS)));
    else if (seen.has(key)) report(refuseOption(file, line, `${name} ${queue}`, word, `${key} once`));
    else setOption(options, rule, word.slice(key.length + 1), file, line, `${name} ${queue}: ${key}`, report);
    seen.add(key);
  }
}

function setOption(
  options: QueueOptions,
  rule: OptionRule,
  value: string,
  file: string,
  line: number,
  name: string,
  report: Report,
): void {
  const read = rule.read(value);
  if (read === undefined) report(refuseOption(file, line, name, value, rule.allowed));
  else Object.assign(options, read);
}

function unknownOption(
  file: string,
  line: number,
  where: string,
  key: string,
  keys: readonly string[],
): VmbatchError {
  const meant = nearestName(key, keys);
  return new VmbatchError({
    fault: 'site',
    code: 'configuration-invalid',
    message: `${file}:${line}: ${where} has no option ${showBytes(key)}${meant === undefined ? '' : ` (did you mean ${meant}?)`}; it has: ${keys.join(', ')}`,
  });
}
