// qmgr's commands: print, list, create, delete, set and unset of the server, queues and nodes.
import { BatchFault } from '../common/faults.ts';
import { formatDate } from '../common/format.ts';
import { nowSeconds } from '../common/log.ts';
import type { Pair } from '../common/protocol.ts';
import type { BatchNode, BatchServer, Queue } from './batch.ts';
import { nodeStatus, queueStatus, serverStatus } from './status.ts';

const LISTS = new Set(['acl_hosts', 'managers', 'operators', 'submit_hosts', 'acl_users', 'acl_groups']);
const COMPUTED = new Set([
  'server_state',
  'total_jobs',
  'state_count',
  'pbs_version',
  'net_counter',
  'mtime',
]);

interface Command {
  verb: string;
  kind: 'server' | 'queue' | 'node';
  name: string;
  assignments: { attribute: string; operator: string; value: string }[];
}

const VERBS: Readonly<Record<string, string>> = {
  p: 'print',
  l: 'list',
  s: 'set',
  u: 'unset',
  c: 'create',
  d: 'delete',
};
const KINDS: Readonly<Record<string, Command['kind']>> = { s: 'server', q: 'queue', n: 'node' };

/** `set queue vmalice enabled = True, started = True`; verbs and kinds may be shortened. */
function parseCommand(text: string): Command {
  const match = /^(\w+)\s+(\w+)\s*(.*)$/.exec(text);
  const verb = VERBS[(match?.[1] ?? '').charAt(0)];
  const kind = KINDS[(match?.[2] ?? '').charAt(0)];
  if (verb === undefined || kind === undefined) throw new BatchFault('badRequest');
  let rest = match?.[3] ?? '';
  let name = '';
  const named = /^(@?[\w.-]+)(?:\s+|$)(?![+-]?=)/.exec(rest);
  if (kind !== 'server' && named !== null) {
    name = named[1] ?? '';
    rest = rest.slice(named[0].length);
  }
  const assignments = [
    ...rest.matchAll(/([\w.]+)\s*(?:([+-]?=)\s*("[^"]*"|[^,\s]*(?:,(?!\s*[\w.]+\s*[+-]?=)[^,\s]*)*))?,?\s*/g),
  ]
    .filter((found) => found[1] !== undefined)
    .map((found) => ({
      attribute: found[1] ?? '',
      operator: found[2] ?? '',
      value: (found[3] ?? '').replace(/^"|"$/g, ''),
    }));
  return { verb, kind, name, assignments };
}

/** Carries out one command; returns what qmgr prints. Throws BatchFault. */
export function manage(server: BatchServer, text: string, user: string, address: string): string {
  const command = parseCommand(text);
  if (command.verb === 'print') return print(server, command);
  if (command.verb === 'list') return list(server, command);
  if (!server.isManager(user)) throw new BatchFault('unauthorized');
  if (command.verb === 'create') create(server, command);
  else if (command.verb === 'delete') remove(server, command);
  else change(server, command, address);
  server.saveDatabase();
  server.wake();
  return '';
}

function print(server: BatchServer, command: Command): string {
  const lines: string[] = ['#'];
  if (command.kind !== 'node') {
    const queues = [...server.queues.values()].filter(
      ({ name }) => command.name === '' || name === command.name,
    );
    lines.push('# Create queues and set their attributes.', '#');
    for (const queue of queues) {
      lines.push('#', `# Create and define queue ${queue.name}`, '#', `create queue ${queue.name}`);
      lines.push(...settings(`queue ${queue.name}`, queueStatus(server, queue).attributes));
    }
  }
  if (command.kind === 'server') {
    lines.push('#', '# Set server attributes.', '#', ...settings('server', serverStatus(server).attributes));
  }
  if (command.kind === 'node') lines.push('# Create nodes and set their properties.', '#');
  return `${lines.join('\n')}\n`;
}

function settings(target: string, attributes: readonly Pair[]): string[] {
  return attributes
    .filter(([name]) => !COMPUTED.has(name) && !name.startsWith('resources_assigned.'))
    .flatMap(([name, value]) =>
      (LISTS.has(name) ? value.split(',') : [value]).map(
        (item, index) => `set ${target} ${name} ${index === 0 ? '=' : '+='} ${item}`,
      ),
    );
}

function list(server: BatchServer, command: Command): string {
  if (command.kind === 'server') return listing('Server', server.name, serverStatus(server).attributes);
  if (command.kind === 'queue') {
    const queues = command.name === '' ? [...server.queues.values()] : [queueOf(server, command.name)];
    return queues
      .map((queue) => listing('Queue', queue.name, queueStatus(server, queue).attributes))
      .join('');
  }
  const nodes = command.name === '' ? [...server.nodes.values()] : [nodeOf(server, command.name)];
  return nodes.map((node) => listing('Node', node.name, nodeStatus(server, node).attributes)).join('');
}

/** Long values are folded after commas, below the place where the value began. */
export function listing(title: string, name: string, attributes: readonly Pair[]): string {
  const lines = attributes.map(([attribute, value]) => {
    const shown = attribute === 'mtime' ? formatDate(Number(value)) : value;
    const indent = ' '.repeat(attribute.length + 11);
    const rows: string[] = [];
    for (const piece of shown.split(/(?<=,)/)) {
      const last = rows.at(-1);
      if (last !== undefined && indent.length + last.length + piece.length < 80)
        rows[rows.length - 1] = last + piece;
      else rows.push(piece);
    }
    return `\t${attribute} = ${rows.join(`\n${indent}`)}\n`;
  });
  return `${title} ${name}\n${lines.join('')}\n`;
}

function queueOf(server: BatchServer, name: string): Queue {
  const queue = server.queues.get(name);
  if (queue === undefined) throw new BatchFault('unknownQueue');
  return queue;
}

function nodeOf(server: BatchServer, name: string): BatchNode {
  const node = server.nodes.get(name);
  if (node === undefined) throw new BatchFault('unknownNode', 'MSG=cannot locate specified node');
  return node;
}

function create(server: BatchServer, command: Command): void {
  if (command.kind === 'queue') {
    server.queues.set(command.name, { name: command.name, attributes: new Map(), modified: nowSeconds() });
  } else if (command.kind === 'node') {
    const empty = { properties: [], offline: false, note: '', momPid: 0, status: '' };
    server.nodes.set(command.name, { name: command.name, np: 1, ...empty });
  } else throw new BatchFault('badRequest');
  change(server, command, '');
}

function remove(server: BatchServer, command: Command): void {
  if (command.kind === 'queue') server.queues.delete(queueOf(server, command.name).name);
  else if (command.kind === 'node') server.nodes.delete(nodeOf(server, command.name).name);
  else throw new BatchFault('badRequest');
}

function change(server: BatchServer, command: Command, address: string): void {
  const done = command.verb === 'unset' ? 'unset' : 'set';
  for (const { attribute, operator, value } of command.assignments) {
    if (command.kind === 'node') changeNode(nodeOf(server, command.name), attribute, operator, value);
    else {
      const queue = command.kind === 'queue' ? queueOf(server, command.name) : undefined;
      const values = queue?.attributes ?? server.attributes;
      if (done === 'unset') values.delete(attribute);
      else if (attribute === 'next_job_number') server.nextJob = Number(value);
      else values.set(attribute, combine(values.get(attribute), operator, value));
      if (queue !== undefined) queue.modified = nowSeconds();
    }
    const [type, name] =
      command.kind === 'server'
        ? ['Svr', 'PBS_Server']
        : [command.kind === 'queue' ? 'Que' : 'node', command.name];
    if (address !== '') server.log('04', type, name, `attributes ${done}:  at request of ${address}`);
    const shown = command.kind === 'node' ? operator.replace('=', '') || '=' : '=';
    server.log('04', type, name, `attributes ${done}: ${attribute} ${shown} ${value}`);
  }
}

function combine(present: string | undefined, operator: string, value: string): string {
  const items = (present ?? '').split(',').filter((item) => item !== '');
  if (operator === '+=') return [...new Set([...items, value])].join(',');
  if (operator === '-=') return items.filter((item) => item !== value).join(',');
  return value;
}

function changeNode(node: BatchNode, attribute: string, operator: string, value: string): void {
  if (attribute === 'np') node.np = Number(value);
  else if (attribute === 'note') node.note = value;
  else if (attribute === 'properties') {
    node.properties = combine(node.properties.join(','), operator, value)
      .split(',')
      .filter((name) => name !== '');
  } else if (attribute === 'state') {
    node.offline = operator === '-=' ? node.offline && value !== 'offline' : value === 'offline';
  }
}

/** pbsnodes -o, -c, -r and -N. */
export function changeOffline(
  server: BatchServer,
  name: string,
  change: { offline?: boolean | undefined; note?: string | undefined },
  user: string,
  address: string,
): void {
  const node = nodeOf(server, name);
  if (!server.isManager(user)) throw new BatchFault('unauthorized');
  if (change.note !== undefined) node.note = change.note;
  if (change.offline !== undefined && change.offline !== node.offline) {
    const [from, to] = change.offline ? ['free', 'offline'] : ['offline', 'free'];
    node.offline = change.offline;
    server.log('04', 'node', name, `attributes set:  at request of ${address}`);
    server.log('04', 'node', name, `node ${name} state changed from ${from} to ${to}`);
    server.log('04', 'node', name, `attributes set: state ${change.offline ? '+' : '-'} offline`);
  }
  server.saveDatabase();
  server.wake();
}
