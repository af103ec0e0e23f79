// qmgr of the stand-in: commands by -c or, one a line, on standard input; the server carries them out.
import { readFileSync } from 'node:fs';
import { exitCodeOf } from '../common/faults.ts';
import { Connection, runClient } from './connection.ts';
import { parseOptions } from './options.ts';

async function main(argv: string[]): Promise<number> {
  const parsed = parseOptions('ac:enz', argv);
  if (parsed.invalid !== undefined) {
    process.stderr.write('usage: qmgr [-a] [-c command] [-e] [-n] [-z] [server...]\n');
    return 1;
  }
  const command = new Map(parsed.options).get('c');
  const connection = await Connection.open('qmgr');
  const commands = command === undefined ? readFileSync(0, 'utf8').split('\n') : [command];
  let exitCode = 0;
  for (const line of commands) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    if (['q', 'quit', 'exit'].includes(text)) break;
    const reply = await connection.ask({ kind: 'manage', command: text });
    if (reply.code === 0) process.stdout.write(reply.text);
    else {
      process.stderr.write(`qmgr obj= svr=default: ${reply.text}\n`);
      exitCode = exitCodeOf(reply.code);
    }
  }
  connection.close();
  return exitCode;
}

runClient(main);
