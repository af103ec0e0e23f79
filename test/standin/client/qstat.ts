// qstat of the stand-in.
import { exitCodeOf } from '../common/faults.ts';
import type { StatusObject } from '../common/protocol.ts';
import { Connection, completeJobId, runClient } from './connection.ts';
import { parseOptions } from './options.ts';
import {
  attributeOf,
  collapseArrays,
  renderAlternate,
  renderDefault,
  renderFull,
  renderQueueLimits,
  renderQueues,
  renderServers,
  renderXml,
} from './qstat-render.ts';

const USAGE = `usage: 
qstat [-f [-1]] [-W site_specific] [-x] [ job_identifier... | destination... ]
qstat [-a|-i|-r|-e] [-u user] [-n [-1]] [-s] [-t] [-G|-M] [-R] [job_id... | destination...]
qstat -Q [-f [-1]] [-W site_specific] [ destination... ]
qstat -q [-G|-M] [ destination... ]
qstat -B [-f [-1]] [-W site_specific] [ server_name... ]
`;

function fail(text: string, code: number): number {
  process.stderr.write(`qstat: ${text}\n`);
  return exitCodeOf(code);
}

async function main(argv: string[]): Promise<number> {
  const parsed = parseOptions('aefiln1rsu:xqQBtW:GMRp', argv);
  if (parsed.invalid !== undefined) {
    process.stderr.write(`qstat: invalid option -- '${parsed.invalid.letter}'\n${USAGE}`);
    return 2;
  }
  const options = new Map(parsed.options);
  const connection = await Connection.open('qstat');
  try {
    if (options.has('B')) return await servers(connection, options);
    if (options.has('Q') || options.has('q')) return await queues(connection, options, parsed.operands);
    return await jobs(connection, options, parsed.operands);
  } finally {
    connection.close();
  }
}

async function servers(connection: Connection, options: ReadonlyMap<string, string>): Promise<number> {
  const reply = await connection.ask({ kind: 'server' });
  const found = reply.objects ?? [];
  process.stdout.write(
    options.has('f') ? renderFull('Server', found, options.has('1')) : renderServers(found),
  );
  return 0;
}

async function queues(
  connection: Connection,
  options: ReadonlyMap<string, string>,
  names: readonly string[],
): Promise<number> {
  const found: StatusObject[] = [];
  let exitCode = 0;
  for (const name of names.length === 0 ? [undefined] : names) {
    const reply = await connection.ask({ kind: 'queues', name });
    if (reply.code === 0) found.push(...(reply.objects ?? []));
    else exitCode = fail(`Unknown queue ${name}`, reply.code);
  }
  if (options.has('q')) process.stdout.write(renderQueueLimits(connection.serverName, found));
  else if (options.has('f')) process.stdout.write(renderFull('Queue', found, options.has('1')));
  else process.stdout.write(renderQueues(found));
  return exitCode;
}

async function jobs(
  connection: Connection,
  options: ReadonlyMap<string, string>,
  operands: readonly string[],
): Promise<number> {
  const answers: StatusObject[][] = [];
  let exitCode = 0;
  for (const operand of operands.length === 0 ? [undefined] : operands) {
    const id = operand === undefined ? undefined : completeJobId(operand, connection.serverName);
    const reply = await connection.ask({ kind: 'jobs', name: id ?? operand });
    if (reply.code === 0) answers.push(reply.objects ?? []);
    else if (id === undefined) exitCode = fail(`Unknown queue destination ${operand}`, reply.code);
    else exitCode = fail(`${reply.text} ${id}`, reply.code);
  }
  // One document for each operand, an empty one where there are no jobs (`display_statjob`).
  if (options.has('x')) {
    for (const jobs of answers) process.stdout.write(renderXml(jobs.filter((job) => wanted(job, options))));
    return exitCode;
  }
  const shown = options.has('t') || options.has('f') ? answers.flat() : collapseArrays(answers.flat());
  const found = shown.filter((job) => wanted(job, options));
  process.stdout.write(render(connection.serverName, found, options));
  return exitCode;
}

function wanted(job: StatusObject, options: ReadonlyMap<string, string>): boolean {
  const state = attributeOf(job, 'job_state') ?? '';
  if (options.has('i') && !'QHW'.includes(state)) return false;
  if (options.has('r') && state !== 'R') return false;
  const users = options.get('u')?.split(',');
  return users === undefined || users.includes((attributeOf(job, 'Job_Owner') ?? '').replace(/@.*$/, ''));
}

function render(
  server: string,
  found: readonly StatusObject[],
  options: ReadonlyMap<string, string>,
): string {
  if (options.has('f')) return renderFull('Job Id', found, options.has('1'));
  if (['a', 'i', 'r', 'u', 'n', 's', 'G', 'M'].some((letter) => options.has(letter))) {
    return renderAlternate(server, found, options.has('n') ? (options.has('1') ? 'same' : 'own') : 'no');
  }
  return renderDefault(found);
}

runClient(main);
