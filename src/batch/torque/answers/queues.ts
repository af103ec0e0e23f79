// What the batch server says of its queues and of itself: limits, access lists, where a routing queue leads.
import { VmbatchError } from '../../../util/errors.ts';
import { commandPath, type Torque } from '../commands.ts';
import { torqueError } from '../errors.ts';
import { parseDuration } from '../units.ts';

/** Attributes as TORQUE writes them, unfolded: `resources_max.walltime` -> `01:00:00`. */
export type Attributes = ReadonlyMap<string, string>;

/** One queue of `qstat -Q -f`. */
export interface QueueDescription {
  name: string;
  attributes: Attributes;
}

/** All queues of the server.
 * @throws VmbatchError `site` if the server does not answer */
export async function describeQueues(torque: Torque, signal?: AbortSignal): Promise<QueueDescription[]> {
  const result = await torque.run(commandPath(torque, 'qstat'), ['-Q', '-f'], withSignal(signal));
  if (result.exitCode !== 0) throw torqueError('qstat', result, 'all queues');
  refuseCut('qstat -Q -f', result.stdout);
  return parseAttributeLists(result.stdout, 'Queue');
}

/** The server's own attributes: `pbs_version`, `max_user_run`, `resources_default.walltime`, ...
 * @throws VmbatchError `site` if the server does not answer */
export async function describeServer(torque: Torque, signal?: AbortSignal): Promise<Attributes> {
  const result = await torque.run(commandPath(torque, 'qstat'), ['-B', '-f'], withSignal(signal));
  if (result.exitCode !== 0) throw torqueError('qstat', result, 'the server');
  refuseCut('qstat -B -f', result.stdout);
  return parseAttributeLists(result.stdout, 'Server')[0]?.attributes ?? new Map();
}

const withSignal = (signal: AbortSignal | undefined) => (signal === undefined ? {} : { signal });

/** Half a list would make queues of which nothing is known. */
function refuseCut(command: string, text: string): void {
  if (text === '' || text.endsWith('\n')) return;
  throw new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: `${command}: the answer ends within the line ${JSON.stringify(text.slice(text.lastIndexOf('\n') + 1).slice(0, 80))}`,
  });
}

/** @param text the output of `qstat -f` for queues or servers: long values fold with a newline and a tab,
 * even inside a word
 * @param title what stands before each name: `Queue: main` */
export function parseAttributeLists(text: string, title: 'Queue' | 'Server'): QueueDescription[] {
  const lists: QueueDescription[] = [];
  let attributes = new Map<string, string>();
  for (const line of text.replaceAll('\n\t', '').split('\n')) {
    const [, key, value] = /^ {4}(\S+) = (.*)$/.exec(line) ?? [];
    if (line.startsWith(`${title}: `)) {
      attributes = new Map();
      lists.push({ name: line.slice(title.length + 2).trim(), attributes });
    } else if (key !== undefined && value !== undefined) attributes.set(key, value.trim());
  }
  return lists;
}

/** Takes jobs and lets them start. */
export const isOpen = ({ attributes }: QueueDescription) =>
  attributes.get('enabled') === 'True' && attributes.get('started') === 'True';

/** Local queues behind a routing queue, in the order in which TORQUE tries them; none for an execution
 * queue. */
export function routeDestinations({ attributes }: QueueDescription): string[] {
  if (attributes.get('queue_type')?.startsWith('Route') !== true) return [];
  return listOf(attributes, 'route_destinations').map((destination) => destination.split('@')[0] ?? '');
}

/** A whole number such as `max_running`; undefined without one. */
export function countOf(attributes: Attributes, key: string): number | undefined {
  const value = attributes.get(key);
  return value !== undefined && /^[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
}

/** A duration such as `resources_max.walltime`, in seconds. */
export const durationOf = (attributes: Attributes, key: string) => parseDuration(attributes.get(key));

/** A list with commas, such as `acl_users`. */
export function listOf(attributes: Attributes, key: string): string[] {
  return (attributes.get(key) ?? '')
    .split(/[,+]/)
    .map((item) => item.trim())
    .filter(Boolean);
}

/** Node properties, or names of nodes, that jobs of the queue need by `resources_default.neednodes` or
 * `.nodes`, which are written like `1:ppn=2:grid`. */
export function neededProperties({ attributes }: QueueDescription): string[] {
  const request =
    attributes.get('resources_default.neednodes') ?? attributes.get('resources_default.nodes') ?? '';
  // Several kinds of nodes for one job say nothing of which nodes the queue has.
  return request.includes('+')
    ? []
    : request.split(':').filter((part) => part !== '' && !/^[0-9]+$/.test(part) && !part.includes('='));
}
