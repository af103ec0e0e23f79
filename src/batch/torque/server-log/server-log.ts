// Lines of TORQUE's server log that tell what became of a job, found in bytes: nearly all other lines are
// never decoded.
import { parseDuration, parseSize } from '../units.ts';

/** What a line says. `enqueued`: a queue took the job. `started`: it was sent to a node. `deleted`:
 * somebody's qdel was taken; a job that waited is gone then, one that runs ends later, with an `ended` of its
 * own. `ended`: the mom reported the end. `dequeued`: TORQUE forgot a complete job, some time after its end
 * or by `qdel -p`. */
type LogEventKind = 'enqueued' | 'started' | 'deleted' | 'ended' | 'dequeued';

export interface LogEvent {
  kind: LogEventKind;
  jobId: string;
  /** Epoch milliseconds; undefined if the line has no readable time. */
  time: number | undefined;
  /** `user@host`, of `deleted`. */
  by: string | undefined;
  /** Of `ended`. Negative when TORQUE ended the job, 256 + signal. */
  exitStatus: number | undefined;
  /** Of `ended`. Seconds, KiB. */
  used: { cpuTime: number | undefined; wallTime: number | undefined; memory: number | undefined };
}

/** How the text of a line begins, behind the semicolon. */
const BEGINNINGS: readonly (readonly [LogEventKind, Buffer])[] = [
  ['enqueued', Buffer.from(';enqueuing into ')],
  ['started', Buffer.from(';Job Run at request of ')],
  ['deleted', Buffer.from(';Job deleted at request of ')],
  ['ended', Buffer.from(';Exit_status=')],
  ['dequeued', Buffer.from(';dequeuing ')],
];

const NEWLINE = 0x0a;

/** Events of whole lines, in their order.
 * @param lines ends with a newline */
export function findLogEvents(lines: Buffer): LogEvent[] {
  const hits: { kind: LogEventKind; at: number }[] = [];
  for (const [kind, beginning] of BEGINNINGS)
    for (let at = lines.indexOf(beginning); at >= 0; at = lines.indexOf(beginning, at + beginning.length))
      hits.push({ kind, at });
  hits.sort((one, other) => one.at - other.at);
  const events: LogEvent[] = [];
  for (const { kind, at } of hits) {
    const from = lines.lastIndexOf(NEWLINE, at) + 1;
    const end = lines.indexOf(NEWLINE, at);
    const event = parseLogLine(lines.toString('latin1', from, end < 0 ? lines.length : end));
    if (event?.kind === kind) events.push(event);
  }
  return events;
}

/** `date time;type;daemon;Job;id;text`. The type is written as `16` or `0010`, and says nothing that the text
 * does not. Undefined for every other line, whatever the job's owner managed to get into it. */
export function parseLogLine(line: string): LogEvent | undefined {
  const match = /^([^;]*);[^;]*;[^;]*;Job;([^;]+);(.*)$/s.exec(line);
  if (match === null) return undefined;
  const [, stamp = '', jobId = '', text = ''] = match;
  const kind = kindOf(text);
  if (kind === undefined) return undefined;
  const figures =
    kind === 'ended'
      ? new Map([...text.matchAll(/(\S+?)=(\S+)/g)].map(([, key, value]) => [key, value]))
      : undefined;
  const exitStatus = figures?.get('Exit_status');
  if (kind === 'ended' && !/^-?[0-9]{1,6}$/.test(exitStatus ?? '')) return undefined;
  return {
    kind,
    jobId,
    time: parseStamp(stamp),
    by: kind === 'deleted' ? /request of (\S+)/.exec(text)?.[1] : undefined,
    exitStatus: exitStatus === undefined ? undefined : Number(exitStatus),
    used: {
      cpuTime: parseDuration(figures?.get('resources_used.cput')),
      wallTime: parseDuration(figures?.get('resources_used.walltime')),
      memory: parseSize(figures?.get('resources_used.mem')),
    },
  };
}

function kindOf(text: string): LogEventKind | undefined {
  if (text.startsWith('Exit_status=')) return 'ended';
  if (text.startsWith('Job deleted at request of ')) return 'deleted';
  if (text.startsWith('Job Run at request of ')) return 'started';
  if (text.startsWith('enqueuing into ')) return 'enqueued';
  // A job that moves on from a routing queue is dequeued as well.
  return /^dequeuing .*, state COMPLETE$/.test(text) ? 'dequeued' : undefined;
}

/** `11/22/2026 09:17:17.155`, in the server's local time, which is taken to be ours. */
function parseStamp(stamp: string): number | undefined {
  const match = /^(\d\d)\/(\d\d)\/(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,3}))?$/.exec(stamp);
  if (match === null) return undefined;
  const [month = 0, day = 0, year = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  return new Date(
    year,
    month - 1,
    day,
    hour,
    minute,
    second,
    Number((match[7] ?? '').padEnd(3, '0')),
  ).getTime();
}
