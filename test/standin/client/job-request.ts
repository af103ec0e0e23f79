// qsig, qhold and qrls of the stand-in: one request for each job id; which one is told by the program's name.
import { basename } from 'node:path';
import type { ClientRequest } from '../common/protocol.ts';
import { Connection, completeJobId, reportFault, runClient } from './connection.ts';
import { parseOptions } from './options.ts';

async function main(argv: string[]): Promise<number> {
  const client = basename(process.argv[1] ?? '', '.cjs');
  const parsed = parseOptions(client === 'qsig' ? 'as:' : 'h:t:', argv);
  if (parsed.invalid !== undefined || parsed.operands.length === 0) {
    process.stderr.write(
      `usage: ${client} [${client === 'qsig' ? '-s signal' : '-h hold_type'}] job_identifier...\n`,
    );
    return 2;
  }
  const signal = new Map(parsed.options).get('s') ?? 'SIGTERM';
  const connection = await Connection.open(client);
  let exitCode = 0;
  for (const operand of parsed.operands) {
    const id = completeJobId(operand, connection.serverName);
    if (id === undefined) {
      process.stderr.write(`${client}: illegally formed job identifier: ${operand}\n`);
      exitCode = 1;
      continue;
    }
    const request: ClientRequest =
      client === 'qsig' ? { kind: 'signal', id, signal } : { kind: 'hold', id, held: client === 'qhold' };
    const reply = await connection.ask(request);
    if (reply.code !== 0) exitCode = reportFault(client, reply, id);
  }
  connection.close();
  return exitCode;
}

runClient(main);
