// A client's connection to the stand-in's server: the proof of who is calling, requests, and TORQUE's words
// when nobody answers.
import { mkdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { exitCodeOf } from '../common/faults.ts';
import { type ClientRequest, onLines, type ServerReply, send } from '../common/protocol.ts';
import { findHome, readServerName, type SitePaths, sitePaths } from '../common/site.ts';

export const ABOUT =
  'torque-standin: a stand-in for TORQUE 6.1, for trying and testing vmbatch. It is not a batch system.';

/** Ends the client: thrown anywhere, turned into stderr text and exit code by `runClient`. */
export class ClientExit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message = '') {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Which words a client uses when the server does not answer; qstat tries three times. */
interface DownWords {
  tries: number;
  lines: (server: string) => string;
  exitCode: number;
}

const DOWN_WORDS: Record<string, DownWords> = {
  qstat: {
    tries: 3,
    lines: (server) =>
      `qstat: cannot connect to server ${server} (errno=111) Connection refused\nqstat: Error (111 - Connection refused) \n`,
    exitCode: 111,
  },
  pbsnodes: {
    tries: 1,
    lines: (server) => `pbsnodes: cannot connect to server ${server}, error=111 (Connection refused)\n`,
    exitCode: 1,
  },
};

export class Connection {
  readonly serverName: string;
  private readonly socket: Socket;
  private readonly waiting: ((line: string | undefined) => void)[] = [];
  private readonly lines: string[] = [];
  private ended = false;

  private constructor(socket: Socket, serverName: string) {
    this.socket = socket;
    this.serverName = serverName;
    onLines(socket, (line) => {
      const waiter = this.waiting.shift();
      if (waiter) waiter(line);
      else this.lines.push(line);
    });
    socket.on('error', () => this.end());
    socket.on('close', () => this.end());
  }

  /** Connects and proves who is calling; `client` is the name that messages begin with. */
  static async open(client: string): Promise<Connection> {
    const home = findHome();
    if (home === undefined) throw new ClientExit(1, `${client}: TORQUE_STANDIN_HOME is not set\n${ABOUT}\n`);
    const paths = sitePaths(home);
    const serverName = readServerName(paths);
    const socket = await new Promise<Socket | undefined>((resolve) => {
      const opened = connect(paths.clientSocket, () => resolve(opened));
      opened.once('error', () => resolve(undefined));
    });
    if (socket === undefined) throw new ClientExit(...serverDown(client, serverName));
    const connection = new Connection(socket, serverName);
    await connection.proveIdentity(paths);
    return connection;
  }

  /** Node cannot ask a socket for its peer's uid. So the server names a directory that does not exist yet and
   * the client makes it: its owner is the caller. A directory, since those cannot be hard-linked from
   * somebody else's. */
  private async proveIdentity(paths: SitePaths): Promise<void> {
    const nonce = (await this.line()) ?? '';
    if (!/^[0-9a-f]{32}$/.test(nonce)) throw new ClientExit(1, 'unexpected greeting from the server\n');
    mkdirSync(join(paths.proofs, nonce), { mode: 0o700 });
    this.socket.write('proved\n');
  }

  private line(): Promise<string | undefined> {
    const held = this.lines.shift();
    if (held !== undefined || this.ended) return Promise.resolve(held);
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private end(): void {
    this.ended = true;
    for (const waiter of this.waiting.splice(0)) waiter(undefined);
  }

  async ask(request: ClientRequest): Promise<ServerReply> {
    send(this.socket, request);
    const line = await this.line();
    if (line === undefined) return { code: 15137, text: 'End of File' };
    return JSON.parse(line) as ServerReply;
  }

  close(): void {
    this.socket.destroy();
  }
}

function serverDown(client: string, server: string): [number, string] {
  const words = DOWN_WORDS[client] ?? {
    tries: 1,
    lines: (name: string) => `${client}: cannot connect to server ${name} (errno=111) Connection refused\n`,
    exitCode: 111,
  };
  const attempt = `\nUnable to communicate with ${server}(127.0.0.1)\nCannot connect to specified server host '${server}'.\n`;
  return [words.exitCode, attempt.repeat(words.tries) + words.lines(server)];
}

/** `39` becomes `39.vm`; undefined if the text is no job id at all. */
export function completeJobId(text: string, serverName: string): string | undefined {
  const match = /^(\d+(\[\d*\])?)(\..+)?$/.exec(text);
  if (match === null) return undefined;
  return match[3] === undefined ? `${match[1]}.${serverName}` : text;
}

/** Prints a refusal the way qdel, qsig and qhold do; returns the exit code. */
export function reportFault(client: string, reply: ServerReply, id: string): number {
  process.stderr.write(`${client}: ${reply.text} ${id}\n`);
  return exitCodeOf(reply.code);
}

/** Runs a client's main function and sets the exit code; `--about` tells what these commands really are. */
export function runClient(main: (argv: string[]) => Promise<number>): void {
  const argv = process.argv.slice(2);
  if (argv[0] === '--about' || argv[0] === '--version' || argv[0] === '--help') {
    process.stdout.write(argv[0] === '--version' ? `Version: 6.1-dev (stand-in)\n${ABOUT}\n` : `${ABOUT}\n`);
    return;
  }
  main(argv).then(
    (code) => {
      process.exitCode = code;
    },
    (thrown: unknown) => {
      if (thrown instanceof ClientExit) {
        process.stderr.write(thrown.message);
        process.exitCode = thrown.exitCode;
        return;
      }
      process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
      process.exitCode = 1;
    },
  );
}

/** The name of the machine as clients report it: the server's, on a single-node site. */
export function hostName(serverName: string): string {
  return readHostOverride() ?? serverName;
}

function readHostOverride(): string | undefined {
  try {
    const text = readFileSync(join(findHome() ?? '', 'submit_host'), 'utf8').trim();
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}
