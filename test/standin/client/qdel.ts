// qdel of the stand-in.
import { exitCodeOf } from '../common/faults.ts';
import { Connection, completeJobId, reportFault, runClient } from './connection.ts';
import { parseOptions } from './options.ts';

const USAGE = `usage: qdel [{ -a | -c | -p | -t | -W delay | -m message}] [-b retry_seconds] [<JOBID>[<JOBID>]|'all'|'ALL']...
       -a -c, -m, -p, -t, and -W are mutually exclusive
`;

async function main(argv: string[]): Promise<number> {
  const parsed = parseOptions('ab:cm:pt:W:', argv);
  const options = new Map(parsed.options);
  const delay = options.get('W');
  if (
    parsed.invalid !== undefined ||
    parsed.operands.length === 0 ||
    (delay !== undefined && !/^\d+$/.test(delay))
  ) {
    process.stderr.write(USAGE);
    return 2;
  }
  const connection = await Connection.open('qdel');
  let exitCode = 0;
  for (const operand of await expandAll(connection, parsed.operands)) {
    const id = completeJobId(operand, connection.serverName);
    if (id === undefined) {
      process.stderr.write(`qdel: illegally formed job identifier: ${operand}\n`);
      exitCode = 1;
      continue;
    }
    const reply = await connection.ask({
      kind: 'delete',
      id,
      delay: delay === undefined ? undefined : Number(delay),
      purge: options.has('p'),
    });
    if (reply.code === 15001) {
      process.stderr.write(`qdel: nonexistent job id: ${id}\n`);
      exitCode = exitCodeOf(reply.code);
    } else if (reply.code !== 0) exitCode = reportFault('qdel', reply, id);
  }
  connection.close();
  return exitCode;
}

async function expandAll(connection: Connection, operands: readonly string[]): Promise<string[]> {
  if (!operands.some((operand) => operand.toLowerCase() === 'all')) return [...operands];
  const reply = await connection.ask({ kind: 'jobs' });
  return (reply.objects ?? [])
    .filter((job) => job.attributes.some(([name, value]) => name === 'job_state' && value !== 'C'))
    .map((job) => job.name);
}

runClient(main);
