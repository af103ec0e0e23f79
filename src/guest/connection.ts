// One SSH connection to a guest: the job's key, the pinned host key, commands with their streams.
import ssh2, { type ClientChannel } from 'ssh2';
import { VmbatchError } from '../util/errors.ts';

export interface ConnectionOptions {
  host: string;
  port: number;
  user: string;
  privateKey: string;
  /** `ssh-ed25519 BASE64`: the only host key that is accepted. */
  hostKey: string;
  timeoutMs: number;
}

export interface Connection {
  /** Runs a command; resolves when the guest has taken it. */
  exec(command: string): Promise<ClientChannel>;
  /** Resolves when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Seconds without any sign of life, times three: the connection counts as broken. */
const KEEPALIVE_MS = 15_000;

/** Connects once.
 * @throws VmbatchError `host-key-mismatch` (never try again) or `guest-unreachable` (the caller may). */
export function connect(options: ConnectionOptions): Promise<Connection> {
  const expected = Buffer.from(options.hostKey.split(' ')[1] ?? '', 'base64');
  const where = `${options.host} port ${options.port}`;
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    let mismatch = false;
    const closed = new Promise<void>((gone) => client.once('close', () => gone()));
    client.once('ready', () => {
      client.on('error', () => undefined); // 'close' follows and says all that matters
      resolve({
        closed,
        close: () => client.end(),
        exec: (command) =>
          new Promise((opened, failed) => {
            client.exec(command, (error, channel) => (error ? failed(error) : opened(channel)));
          }),
      });
    });
    client.once('error', (error) => {
      client.destroy();
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
              message: `no SSH session with the guest at ${where}: ${error.message}`,
              cause: error,
            }),
      );
    });
    client.connect({
      host: options.host,
      port: options.port,
      username: options.user,
      privateKey: options.privateKey,
      readyTimeout: options.timeoutMs,
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: 3,
      algorithms: { serverHostKey: ['ssh-ed25519'] },
      hostVerifier: (key: Buffer) => {
        mismatch = !key.equals(expected);
        return !mismatch;
      },
    });
  });
}

/** Waits for a short command's end: its exit code and what it printed on stdout, of which `maxBytes` are
 * kept: root in the guest is the job's, it may send without end. */
export function finished(
  channel: ClientChannel,
  maxBytes = 4096,
): Promise<{ exitCode: number | undefined; output: string }> {
  return new Promise((resolve) => {
    let exitCode: number | undefined;
    let output = '';
    channel.stderr.resume();
    channel.on('data', (data: Buffer) => {
      output = (output + data.toString('latin1')).slice(0, maxBytes);
    });
    channel.on('exit', (code: number | null) => {
      exitCode = code ?? undefined;
    });
    channel.once('close', () => resolve({ exitCode, output }));
  });
}
