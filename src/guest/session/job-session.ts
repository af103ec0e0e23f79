// The job in its guest, seen from the node: started over SSH, its output passed on as it comes, its exit code
// brought back. A broken connection is taken up again where it was, for as long as the guest lives.
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmbatchError } from '../../util/errors.ts';
import {
  type Connection,
  ConnectionLost,
  type ConnectionOptions,
  connect,
  outputOf,
  type RemoteCommand,
} from './connection.ts';
import {
  afterJobCommand,
  BOOT_ID_COMMAND,
  followCommand,
  type JobSignal,
  type LaunchOptions,
  launchProgram,
  restCommand,
  signalCommand,
  watchCommand,
} from './remote-programs.ts';
import type { Staging } from './staging.ts';

export interface JobSessionOptions {
  connection: ConnectionOptions;
  launch: LaunchOptions;
  /** Carries the job's files, where the guest does not see them. */
  staging?: Staging;
  stdout: Writable;
  stderr: Writable;
  /** Milliseconds to go on trying to connect; before and after the job was started. */
  connectMs: number;
  reconnectMs: number;
  /** Whether there is any sense in trying again. */
  guestLives: () => boolean;
  /** The boot of the guest that the job was started in; undefined: not known. */
  bootId?: string | undefined;
  /** Seconds that the site's hook after the job may take; 0 or undefined: there is none. */
  afterJobSeconds?: number | undefined;
}

export interface JobEnd {
  exitCode: number;
  reconnects: number;
  /** Seconds from the session's start until the job was started. */
  connectSeconds: number;
  /** What is to be told beside the exit code: a hook after the job that failed. */
  remark?: string;
}

/** One of the job's output streams: where it goes and how much of it has gone there. */
interface Output {
  name: 'out' | 'err';
  sink: Writable;
  received: number;
}

/** A connection that lasted this long was sound. */
const SOUND_MS = 5_000;
const MAX_LOST_IN_A_ROW = 20;

export class JobSession {
  readonly #options: JobSessionOptions;
  readonly #outputs: readonly Output[];
  #connection: Connection | undefined;
  #carriedIn = false;
  #started = false;
  /** Of the job, as soon as it is known. */
  #exitCode: number | undefined;
  #abandoned = false;
  #reconnects = 0;
  #connectSeconds = 0;
  /** Signals that came while there was nobody to hand them to. */
  #pending: JobSignal[] = [];

  constructor(options: JobSessionOptions) {
    this.#options = options;
    this.#outputs = [
      { name: 'out', sink: options.stdout, received: 0 },
      { name: 'err', sink: options.stderr, received: 0 },
    ];
  }

  /** Runs the job to its end.
   * @throws VmbatchError `node` when the guest cannot be reached or is lost; `job` when the job ended what
   * watched over it. */
  async run(): Promise<JobEnd> {
    const begun = performance.now();
    for (let lostInARow = 0; ; ) {
      const connection = await this.#connect();
      const connectedAt = performance.now();
      this.#connection = connection;
      try {
        if (!this.#carriedIn) await this.#options.staging?.carryIn(connection);
        this.#carriedIn = true;
        if (this.#started) await this.#refuseOtherBoot(connection);
        else {
          await this.#launch(connection);
          this.#started = true;
          this.#connectSeconds = (performance.now() - begun) / 1000;
        }
        this.#exitCode ??= await this.#attend(connection);
        await this.#options.staging?.carryOut(connection);
        const remark = await this.#afterJob(connection);
        return {
          exitCode: this.#exitCode,
          reconnects: this.#reconnects,
          connectSeconds: this.#connectSeconds,
          ...(remark === undefined ? {} : { remark }),
        };
      } catch (error) {
        if (!(error instanceof ConnectionLost) || this.#abandoned) throw error;
        lostInARow = performance.now() - connectedAt > SOUND_MS ? 1 : lostInARow + 1;
        if (lostInARow > MAX_LOST_IN_A_ROW) throw brokenSession(error);
      } finally {
        this.#connection = undefined;
        connection.close();
      }
      this.#reconnects++;
      await sleep(Math.min(50 * 2 ** (lostInARow - 1), 2_000));
    }
  }

  /** Lets go of the guest: nothing more comes from it, and nothing keeps this process from ending. */
  abandon(): void {
    this.#abandoned = true;
    this.#connection?.close();
  }

  /** Hands a signal on to the job's process group: now, or as soon as there is a connection and a job. */
  async signal(name: JobSignal): Promise<void> {
    if (this.#connection === undefined || !this.#started) {
      this.#pending.push(name);
      return;
    }
    await this.#send(this.#connection, name);
  }

  async #connect(): Promise<Connection> {
    const { connection, connectMs, reconnectMs, guestLives } = this.#options;
    const deadline = performance.now() + (this.#started ? reconnectMs : connectMs);
    for (let waitMs = 100; ; waitMs = Math.min(waitMs * 1.5, 2_000)) {
      try {
        return await connect(connection);
      } catch (error) {
        if (!(error instanceof VmbatchError) || error.code !== 'guest-unreachable') throw error;
        if (!guestLives())
          throw new VmbatchError({
            fault: 'node',
            code: 'guest-lost',
            message: 'the guest ended before its job did',
            hint: 'was it destroyed by hand, or killed for want of memory on the node?',
            cause: error,
          });
        if (performance.now() >= deadline) throw this.#started ? hangs(error, this.#options) : error;
      }
      await sleep(waitMs);
    }
  }

  /** A guest that has rebooted runs no job, whatever it has of it on its disk.
   * @throws VmbatchError `node` (`guest-rebooted`) */
  async #refuseOtherBoot(connection: Connection): Promise<void> {
    const { bootId } = this.#options;
    if (bootId === undefined) return;
    const { output } = await connection.whileUp(outputOf(await connection.exec(BOOT_ID_COMMAND)));
    const found = output.trim();
    // Nothing at all is what a guest says that is on its way down.
    if (found === '') throw new ConnectionLost();
    if (found === bootId) return;
    throw new VmbatchError({
      fault: 'node',
      code: 'guest-rebooted',
      message: 'the guest rebooted under its job, which is lost with that',
      hint: 'does the job, or something in the image, restart the machine?',
    });
  }

  /** The site's hook in the guest, once the job and its files are through. Never changes how the job
   * ended. */
  async #afterJob(connection: Connection): Promise<string | undefined> {
    const { afterJobSeconds = 0 } = this.#options;
    if (afterJobSeconds === 0 || this.#abandoned) return undefined;
    const command = await connection.exec(afterJobCommand(afterJobSeconds));
    const said = (await connection.whileUp(outputOf(command))).output.trim();
    if (said === '0') return undefined;
    if (said === 'absent') return "the guest has nothing that runs the site's hook after the job";
    return said === ''
      ? `the site's hook after the job took more than ${afterJobSeconds} s in the guest`
      : `the site's hook after the job ended with exit code ${said.slice(0, 3)} in the guest`;
  }

  /** Passes the job's output on until its end; returns its exit code. Nothing of it goes on after a throw,
   * so the next connection can start from what was received. */
  async #attend(connection: Connection): Promise<number> {
    for (const name of this.#pending.splice(0)) void this.#send(connection, name);
    // Listened to from the start: the job may be over already.
    const over = outputOf(await connection.exec(watchCommand(this.#options.launch.directory)));
    const followers = await Promise.all(this.#outputs.map((output) => this.#follow(connection, output)));
    const stop = () => {
      // What the followers have not brought yet is fetched by size: they are not waited for, and an SSH
      // server may keep their channels open for as long as they would.
      for (const follower of followers) follower.stop();
    };
    const { exitCode, output: said } = await connection.whileUp(over).finally(stop);
    const end = parseEnd(said);
    if (end !== undefined) {
      await this.#fetchRest(connection, end);
      return end.code;
    }
    if (exitCode === undefined) throw new ConnectionLost();
    throw new VmbatchError({
      fault: 'job',
      code: 'job-untraceable',
      message: 'the job ended what watched over it in the guest, its exit code is lost',
      hint: 'does the job kill all processes of its user, or run out of memory?',
    });
  }

  async #launch(connection: Connection): Promise<void> {
    const { channel, ended } = await connection.exec('exec /bin/sh -s');
    let complaint = '';
    channel.stderr.on('data', (data: Buffer) => {
      complaint = (complaint + data.toString('latin1')).slice(-500);
    });
    // The channel stays open as long as the job runs: an SSH server may hang up on what it started.
    let said = '';
    const started = new Promise<number | 'started'>((resolve, reject) => {
      channel.on('data', (data: Buffer) => {
        said = (said + data.toString('latin1')).slice(0, 500);
        if (said.startsWith('started\n')) resolve('started');
      });
      void ended.then((code) => (code === undefined ? reject(new ConnectionLost()) : resolve(code)));
    });
    channel.end(launchProgram(this.#options.launch));
    const end = await connection.whileUp(started);
    if (end !== 'started') throw notStarted(end, complaint.trim() || said.trim());
  }

  async #follow(connection: Connection, output: Output): Promise<Flow> {
    const { directory } = this.#options.launch;
    return flow(
      await connection.exec(followCommand(directory, output.name, output.received)),
      output,
      Number.POSITIVE_INFINITY,
    );
  }

  async #fetchRest(connection: Connection, end: RecordedEnd): Promise<void> {
    const { directory } = this.#options.launch;
    await Promise.all(
      this.#outputs.map(async (output) => {
        const size = output.name === 'out' ? end.outBytes : end.errBytes;
        if (output.received >= size) return;
        const rest = await connection.exec(restCommand(directory, output.name, output.received));
        const { stop } = flow(rest, output, size);
        const exitCode = await connection.whileUp(rest.ended).finally(stop);
        // Less than that from a command that ended well: the job has shortened its own output.
        if (output.received < size && exitCode === undefined) throw new ConnectionLost();
      }),
    );
  }

  async #send(connection: Connection, name: JobSignal): Promise<void> {
    const command = signalCommand(this.#options.launch.directory, name);
    // The job's process id is not known in the first moments after its start.
    for (let tries = 0; tries < 20; tries++) {
      try {
        const done = outputOf(await connection.exec(command));
        if ((await connection.whileUp(done)).exitCode === 0) return;
      } catch {
        this.#pending.push(name); // the next connection hands it on
        return;
      }
      await sleep(100);
    }
  }
}

interface RecordedEnd {
  code: number;
  outBytes: number;
  errBytes: number;
}

function parseEnd(said: string): RecordedEnd | undefined {
  const match = /^(\d{1,3}) +(\d{1,15}) +(\d{1,15})$/.exec(said.trim());
  if (match === null) return undefined;
  return { code: Number(match[1]), outBytes: Number(match[2]), errBytes: Number(match[3]) };
}

interface Flow {
  /** From now on nothing more is passed on or counted. */
  stop: () => void;
}

/** Passes a command's stdout on, never faster than it is taken, and never beyond `limit` bytes in all. */
function flow({ channel }: RemoteCommand, output: Output, limit: number): Flow {
  channel.stderr.resume();
  const pass = (part: Buffer) => {
    const wanted = part.subarray(0, Math.max(0, limit - output.received));
    output.received += wanted.length;
    if (output.sink.write(wanted)) return;
    channel.pause();
    output.sink.once('drain', () => channel.resume());
  };
  channel.on('data', pass);
  return {
    stop: () => {
      channel.off('data', pass);
      channel.resume();
      channel.close();
    },
  };
}

/** @param said what the guest's shell printed; the last line says why, as a rule */
function notStarted(exitCode: number, said: string): VmbatchError {
  const last = said.split('\n').at(-1);
  return new VmbatchError({
    fault: 'node',
    code: 'job-not-started',
    message: `the guest did not take the job: sh there ended with exit code ${exitCode} and ${
      last ? `said: ${last}` : 'said nothing'
    }`,
    hint: "is the guest's disk full, and does it have sh, base64, env, mkfifo, setsid, tail and wc?",
  });
}

function hangs(cause: unknown, { connection, reconnectMs }: JobSessionOptions): VmbatchError {
  const seconds = Math.round((connection.heartbeatMs + reconnectMs) / 1000);
  return new VmbatchError({
    fault: 'node',
    code: 'guest-hangs',
    message: `the guest hangs: it runs, but has given no sign of life for about ${seconds} s`,
    hint: 'its console says more (vmbatch console); timeouts.heartbeat and timeouts.reconnect decide how long to wait',
    cause,
  });
}

function brokenSession(cause: unknown): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'session-broken',
    message: `the guest accepts connections and loses each of them, ${MAX_LOST_IN_A_ROW} in a row`,
    hint: "the guest's console and its SSH server's log say more",
    cause,
  });
}
