// One SSH connection to a guest: the job's key, the pinned host key, commands with their streams.
import ssh2, { type ClientChannel, type ServerHostKeyAlgorithm } from 'ssh2';
import { VmbatchError } from '../../util/errors.ts';

/** The first carries a job's output twice as fast as ssh2's own choice; every guest has one of them. */
const CIPHERS = [
  'chacha20-poly1305@openssh.com',
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'aes128-ctr',
  'aes256-ctr',
] as const;

export interface ConnectionOptions {
  host: string;
  port: number;
  user: string;
  /** The account to try where the guest knows none of that name: images made ready by an older version. */
  otherUser?: string | undefined;
  privateKey: string;
  /** Such as `ssh-ed25519 BASE64`: the only host key that is accepted. */
  hostKey: string;
  timeoutMs: number;
  /** Milliseconds without any sign of life after which the connection counts as broken. */
  heartbeatMs: number;
}

export interface Connection {
  /** Runs a command; resolves when the guest has taken it.
   * @throws ConnectionLost */
  exec(command: string): Promise<RemoteCommand>;
  /** What a promise resolves to, as long as the connection is there: nothing that a channel tells may be
   * waited for without it.
   * @throws ConnectionLost */
  whileUp<T>(work: Promise<T>): Promise<T>;
  close(): void;
}

/** A command in the guest. Its output waits until somebody listens to the channel. */
export interface RemoteCommand {
  channel: ClientChannel;
  /** Resolves when the channel is closed and all of stdout was taken from it (the close may come first): to
   * the exit code, or to undefined if it did not come to one. */
  ended: Promise<number | undefined>;
}

/** The connection broke, or something on it did: what was under way may be taken up again on another. */
export class ConnectionLost extends Error {
  constructor(cause?: unknown) {
    super('the connection to the guest was lost', { cause });
    this.name = 'ConnectionLost';
  }
}

/** Questions without an answer after which ssh2 gives a connection up; the next one is not asked any more. */
const UNANSWERED = 3;

/** RSA keys sign in several ways, of which an old server knows the last only. */
function hostKeyAlgorithms(hostKey: string): ServerHostKeyAlgorithm[] {
  const type = hostKey.split(' ')[0] as ServerHostKeyAlgorithm;
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'] : [type];
}

/** Connects once.
 * @throws VmbatchError `host-key-mismatch` (never try again) or `guest-unreachable` (the caller may). */
export async function connect(options: ConnectionOptions): Promise<Connection> {
  const { otherUser } = options;
  try {
    return await connectAs(options);
  } catch (error) {
    if (otherUser === undefined || !isRefusedLogin(error)) throw error;
    return await connectAs({ ...options, user: otherUser });
  }
}

/** Whether the SSH server answered, and then let the account not in. */
function isRefusedLogin(error: unknown): boolean {
  const cause = error instanceof VmbatchError ? error.cause : undefined;
  return cause instanceof Error && 'level' in cause && cause.level === 'client-authentication';
}

function connectAs(options: ConnectionOptions): Promise<Connection> {
  const expected = Buffer.from(options.hostKey.split(' ')[1] ?? '', 'base64');
  const where = `${options.host} port ${options.port}`;
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    let mismatch = false;
    const closed = new Promise<void>((gone) => client.once('close', () => gone()));
    const whileUp = <T>(work: Promise<T>): Promise<T> =>
      Promise.race([
        work,
        closed.then(() => {
          throw new ConnectionLost();
        }),
      ]);
    client.once('ready', () =>
      resolve({
        whileUp,
        close: () => client.end(),
        exec: (command) =>
          whileUp(
            new Promise<RemoteCommand>((opened, failed) => {
              client.exec(command, (error, channel) => {
                if (error !== undefined) failed(new ConnectionLost(error));
                // Here and now: a quick command's end may be in the packets that are being read.
                else opened({ channel, ended: endOf(channel) });
              });
            }),
          ).catch((error: unknown) => {
            // Asked of a client that is closed already, ssh2 throws.
            throw error instanceof ConnectionLost ? error : new ConnectionLost(error);
          }),
      }),
    );
    // One broken connection may tell of itself more than once; after 'ready' its 'close' says all that
    // matters.
    const refuse = (why: string, cause?: unknown) =>
      reject(
        mismatch
          ? new VmbatchError({
              fault: 'node',
              code: 'host-key-mismatch',
              message: `what answers at ${where} has another host key than the guest of this job`,
              hint: 'something else listens there, or the guest was replaced: look at both before anything else',
            })
          : new VmbatchError({
              fault: 'node',
              code: 'guest-unreachable',
              message: `no SSH session with the guest at ${where}: ${why}`,
              cause,
            }),
      );
    client.on('error', (error) => {
      client.destroy();
      refuse(error.message, error);
    });
    // It may also end without a word.
    void closed.then(() => refuse('the connection was closed'));
    client.connect({
      host: options.host,
      port: options.port,
      username: options.user,
      privateKey: options.privateKey,
      readyTimeout: options.timeoutMs,
      keepaliveInterval: Math.max(100, Math.floor(options.heartbeatMs / (UNANSWERED + 1))),
      keepaliveCountMax: UNANSWERED,
      algorithms: { serverHostKey: hostKeyAlgorithms(options.hostKey), cipher: [...CIPHERS] },
      hostVerifier: (key: Buffer) => {
        mismatch = !key.equals(expected);
        return !mismatch;
      },
    });
    // Short requests and answers, one after the other: each would wait for the one before to be acknowledged.
    client.setNoDelay(true);
  });
}

/** What a short command prints on stdout until it ends, and its exit code. Only `maxBytes` are kept: root in
 * the guest is the job's, it may send without end. */
export async function outputOf(
  command: RemoteCommand,
  maxBytes = 4096,
): Promise<{ exitCode: number | undefined; output: string }> {
  let output = '';
  command.channel.stderr.resume();
  command.channel.on('data', (data: Buffer) => {
    output = (output + data.toString('latin1')).slice(0, maxBytes);
  });
  return { exitCode: await command.ended, output };
}

async function endOf(channel: ClientChannel): Promise<number | undefined> {
  const taken = new Promise<void>((resolve) => channel.once('end', () => resolve()));
  const exitCode = await new Promise<number | undefined>((resolve) => {
    channel.once('close', (code: unknown) => resolve(typeof code === 'number' ? code : undefined));
  });
  await taken;
  return exitCode;
}
