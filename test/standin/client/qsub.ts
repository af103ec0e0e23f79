// qsub of the stand-in: arguments and directives in, job id out, with TORQUE's words and exit codes.
import { readFileSync, statSync } from 'node:fs';
import { exitCodeOf } from '../common/faults.ts';
import type { ServerReply } from '../common/protocol.ts';
import { ClientExit, Connection, hostName, runClient } from './connection.ts';
import {
  directiveWords,
  type QsubOptions,
  readOptions,
  refuseAbsent,
  refuseSeveralScripts,
  submitRequest,
} from './qsub-options.ts';

function loadScript(path: string | undefined): Buffer {
  if (path === undefined || path === '-') return readFileSync(0);
  try {
    if (!statSync(path).isFile()) throw new ClientExit(1, 'qsub: script not a file\n');
    return readFileSync(path);
  } catch (thrown) {
    if (thrown instanceof ClientExit) throw thrown;
    const denied = thrown instanceof Error && 'code' in thrown && thrown.code === 'EACCES';
    const why = denied ? 'Permission denied' : 'No such file or directory';
    throw new ClientExit(1, `qsub: script file '${path}' cannot be loaded - ${why}\n`);
  }
}

/** The logical directory of the shell where it is still true, so that a home behind a link keeps its name. */
function workDir(): string {
  const logical = process.env['PWD'];
  const physical = process.cwd();
  if (logical === undefined || !logical.startsWith('/')) return physical;
  try {
    const [one, other] = [statSync(logical), statSync(physical)];
    return one.ino === other.ino && one.dev === other.dev ? logical : physical;
  } catch {
    return physical;
  }
}

async function main(argv: string[]): Promise<number> {
  const read: QsubOptions = { options: new Map(), resources: [], extra: new Map(), operands: [] };
  readOptions(argv, read);
  if (process.getuid?.() === 0) throw new ClientExit(1, 'qsub can not be run as root\n');
  // Before the script is read: an interactive job has none.
  refuseAbsent(read);
  const scriptName = read.operands[0] === '-' ? undefined : read.operands[0];
  const script = loadScript(scriptName);
  refuseSeveralScripts(read);
  const prefix = read.options.get('C') ?? '#PBS';
  if (prefix !== '') {
    const directives: QsubOptions = { ...read, operands: [] };
    for (const words of directiveWords(script.toString('latin1'), prefix)) readOptions(words, directives);
  }
  refuseAbsent(read);
  const connection = await Connection.open('qsub');
  const host = hostName(connection.serverName);
  const place = { workDir: workDir(), host, server: connection.serverName };
  let reply: ServerReply;
  try {
    reply = await connection.ask(submitRequest(read, argv, scriptName, script, place));
  } finally {
    connection.close();
  }
  if (reply.code !== 0) throw new ClientExit(exitCodeOf(reply.code), `qsub: submit error (${reply.text})\n`);
  if (!read.options.has('z')) process.stdout.write(`${reply.text}\n`);
  return 0;
}

runClient(main);
