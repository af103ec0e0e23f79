// The batch system that the contract is tried on: the stand-in, or with VMBATCH_TORQUE=1 the TORQUE on PATH.
// Also the throw-away account that submits, and hooks that write down how they were called.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Standin, startStandin, writeHook } from '../standin/start.ts';
import { type Account, addAccount, type Result, run } from './account.ts';

/** Whether the contract is asked of a real TORQUE. */
export const real = process.env['VMBATCH_TORQUE'] === '1';

export type MomMode = '-p' | '-q' | '-r';

/** Hooks obey the job's name: `pexit2` lets the prologue exit 2, `psleep5` lets it take 5 s, `pkill` makes it
 * die. */
const HOOK = `#!/bin/bash
E=@EVIDENCE@
printf '%s\\0' "$0" "$@" > "$E/$1.@HOOK@.argv"
cat /proc/$$/environ > "$E/$1.@HOOK@.environment"
context="$(id -u; id -g; id -G; umask; pwd; readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2; cut -d" " -f6 /proc/$$/stat; echo $$)"
echo "$context" > "$E/$1.@HOOK@.context"
echo "@HOOK@ begin" >> "$E/$1.events"
echo "@HOOK@ output"
case "@HOOK@ $4" in
  'prologue psleep'*) sleep "\${4#psleep}" ;;
  'prologue pkill'*) kill -KILL $$ ;;
  'prologue pexit'*) code="\${4#pexit}" ;;
  'epilogue eexit'*) code="\${4#eexit}" ;;
esac
echo "@HOOK@ end" >> "$E/$1.events"
exit "\${code:-0}"
`;

const BASE_CONFIG = ['$check_poll_time 1', '$usecp *:/ /'];

export class Batch {
  readonly directory: string;
  readonly evidence: string;
  readonly account: Account;
  readonly server: string;
  readonly queue: string;
  readonly home: string;
  private readonly standin: Standin | undefined;
  private readonly path: string;

  private constructor(account: Account, directory: string, standin: Standin | undefined) {
    this.directory = directory;
    this.evidence = join(directory, 'evidence');
    this.account = account;
    this.standin = standin;
    this.home = standin?.home ?? process.env['PBS_HOME'] ?? '/var/spool/torque';
    this.path = standin?.env.PATH ?? process.env['PATH'] ?? '';
    this.server = readFileSync(join(this.home, 'server_name'), 'utf8').trim();
    const status = execFileSync('qstat', ['-B', '-f'], { encoding: 'utf8', env: this.environment() });
    this.queue = /default_queue = (\S+)/.exec(status)?.[1] ?? '';
  }

  static async open(): Promise<Batch> {
    const directory = mkdtempSync('/var/tmp/vmbatch-contract-');
    chmodSync(directory, 0o755);
    mkdirSync(join(directory, 'evidence'));
    const account = addAccount(directory);
    if (real) {
      const batch = new Batch(account, directory, undefined);
      cpSync(join(batch.home, 'mom_priv'), join(directory, 'mom_priv.before'), { recursive: true });
      try {
        await batch.reset();
      } catch (error) {
        await batch.close();
        throw error;
      }
      return batch;
    }
    execFileSync(process.execPath, [new URL('../standin/build.mjs', import.meta.url).pathname]);
    const attributes = { 'resources_default.nodes': '1', 'resources_default.walltime': '01:00:00' };
    const standin = await startStandin({
      home: join(directory, 'site'),
      serverName: 'vm',
      queues: [{ name: 'vmalice', attributes }],
      nodes: [{ name: 'vm', np: 4 }],
      straySeconds: 0.5,
    });
    const batch = new Batch(account, directory, standin);
    await batch.reset();
    return batch;
  }

  /** Ends the batch system and removes the account and all files; returns sessions that still had
   * processes. */
  async close(): Promise<string[]> {
    try {
      if (real) await this.putBack();
      return (await this.standin?.stop()) ?? [];
    } finally {
      // -f: what TORQUE runs for the last job may still be there.
      execFileSync('userdel', ['-f', this.account.name], { stdio: 'ignore' });
      rmSync(this.directory, { recursive: true, force: true });
    }
  }

  /** Hooks and configuration of the machine's own mom, also where the last test left no mom running. */
  private async putBack(): Promise<void> {
    for (const name of ['prologue', 'epilogue', 'config']) {
      const saved = join(this.directory, 'mom_priv.before', name);
      rmSync(this.momPriv(name), { force: true });
      if (existsSync(saved)) cpSync(saved, this.momPriv(name), { preserveTimestamps: true });
    }
    await this.restartMom('SIGTERM', '-p');
  }

  /** Deletes what a failed test has left, so that the next ones find free slots. */
  async clear(): Promise<void> {
    const listed = (await this.asRoot('qstat', '-f', '-1')).stdout.split(/(?=^Job Id: )/m);
    const alive = listed
      .filter((text) => !text.includes('job_state = C'))
      .map((text) => text.split(/\s+/)[2] ?? '');
    for (const id of alive.filter((one) => one !== '')) {
      await this.asRoot('qdel', id);
      await this.until(id, (attributes) => attributes.get('job_state') === 'C').catch(() => undefined);
    }
  }

  momPriv(name: string): string {
    return join(this.home, 'mom_priv', name);
  }

  /** The usual hooks and configuration. */
  async reset(): Promise<void> {
    for (const hook of ['prologue', 'epilogue'] as const) this.setHook(hook);
    await this.configureMom([]);
  }

  setHook(name: 'prologue' | 'epilogue', text = HOOK): void {
    writeHook(this.momPriv(name), text.replaceAll('@EVIDENCE@', this.evidence).replaceAll('@HOOK@', name));
  }

  async configureMom(lines: readonly string[]): Promise<void> {
    const text = [...BASE_CONFIG, ...lines].map((line) => `${line}\n`).join('');
    writeFileSync(this.momPriv('config'), text);
    // The stand-in reads it for each job, TORQUE when it starts.
    if (real) await this.restartMom('SIGTERM', '-p');
  }

  async killMom(signal: NodeJS.Signals): Promise<void> {
    if (this.standin) {
      await this.standin.killMom(signal);
      return;
    }
    // TORQUE's has a newline and a NUL byte after the number.
    const pid = Number.parseInt(readFileSync(this.momPriv('mom.lock'), 'utf8'), 10);
    if (!existsSync(`/proc/${pid}`)) return;
    process.kill(pid, signal);
    while (existsSync(`/proc/${pid}`)) await sleep(50);
  }

  async startMom(mode: MomMode): Promise<void> {
    if (this.standin) await this.standin.startMom(mode);
    else {
      spawn('pbs_mom', [mode], { detached: true, stdio: 'ignore' }).unref();
      await sleep(3_000);
    }
  }

  private async restartMom(signal: NodeJS.Signals, mode: MomMode): Promise<void> {
    await this.killMom(signal);
    await this.startMom(mode);
  }

  async stopServer(): Promise<void> {
    await this.standin?.killServer();
  }

  async startServer(): Promise<void> {
    await this.standin?.startServer();
  }

  private environment(): NodeJS.ProcessEnv {
    return { PATH: this.path, LANG: 'C.UTF-8' };
  }

  asRoot(...argv: string[]): Promise<Result> {
    return run(argv, { env: this.environment(), cwd: '/' });
  }

  asUser(...argv: string[]): Promise<Result> {
    return this.asUserWithInput('', ...argv);
  }

  asUserWithInput(input: string, ...argv: string[]): Promise<Result> {
    const { name, uid, gid, home } = this.account;
    const env = {
      ...this.environment(),
      HOME: home,
      LOGNAME: name,
      USER: name,
      SHELL: '/bin/bash',
      MAIL: `/var/mail/${name}`,
    };
    return run(argv, { env, cwd: home, uid, gid, input });
  }

  async manage(command: string): Promise<void> {
    const result = await this.asRoot('qmgr', '-c', command);
    if (result.code !== 0) throw new Error(`qmgr -c '${command}': ${result.stderr}`);
  }

  /** A file in the account's home. */
  userFile(name: string): string {
    return join(this.account.home, name);
  }

  writeScript(name: string, text: string): string {
    writeFileSync(this.userFile(name), text);
    chmodSync(this.userFile(name), 0o755);
    return name;
  }

  /** Submits a script with this text; returns the job id. */
  async submit(name: string, text: string, ...options: string[]): Promise<string> {
    const result = await this.asUserWithInput(text, 'qsub', '-N', name, ...options);
    if (result.code !== 0) throw new Error(`qsub: ${result.stderr}`);
    return result.stdout.trim();
  }

  /** Attributes by `qstat -f -1`, in their order. */
  async attributes(id: string): Promise<Map<string, string>> {
    const result = await this.asRoot('qstat', '-f', '-1', id);
    return parseAttributes(result.stdout);
  }

  async until(
    id: string,
    condition: (attributes: ReadonlyMap<string, string>) => boolean,
    seconds = real ? 90 : 12,
  ): Promise<Map<string, string>> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const found = await this.attributes(id);
      if (condition(found)) return found;
      if (Date.now() > deadline) throw new Error(`${id} is ${JSON.stringify([...found])} after ${seconds} s`);
      await sleep(30);
    }
  }

  ended(id: string): Promise<Map<string, string>> {
    return this.until(id, (attributes) => attributes.get('job_state') === 'C');
  }

  running(id: string): Promise<Map<string, string>> {
    return this.until(id, (attributes) => Number(attributes.get('session_id') ?? 0) > 0);
  }

  async untilEvent(id: string, event: string): Promise<void> {
    const deadline = Date.now() + 15_000;
    while (!this.events(id).includes(event)) {
      if (Date.now() > deadline) throw new Error(`${id}: no '${event}' in ${this.events(id)}`);
      await sleep(20);
    }
  }

  /** What the hooks noted, in the order in which it happened. */
  events(id: string): string[] {
    const path = join(this.evidence, `${id}.events`);
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  }

  /** NUL-separated evidence. */
  list(id: string, name: string): string[] {
    return splitNul(readFileSync(join(this.evidence, `${id}.${name}`), 'utf8'));
  }

  hookContext(id: string, hook: string): Record<string, unknown> {
    const [uid, gid, groups, umask, cwd, stdin, stdout, stderr, session, pid] = readFileSync(
      join(this.evidence, `${id}.${hook}.context`),
      'utf8',
    ).split('\n');
    return { uid, gid, groups, umask, cwd, stdin, stdout, stderr, leadsSession: session?.trim() === pid };
  }

  private readDays(directory: string): string {
    const path = join(this.home, directory);
    const days = readdirSync(path).filter((name) => /^\d{8}$/.test(name));
    return days.map((name) => readFileSync(join(path, name), 'utf8')).join('');
  }

  serverLog(id: string): string[] {
    return this.readDays('server_logs')
      .split('\n')
      .filter((line) => line.includes(id));
  }

  /** All lines of the mom, without date and time. */
  momLog(): string[] {
    return this.readDays('mom_logs')
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(line.indexOf(';') + 1));
  }

  /** Record types of a job, `QSE`. */
  records(id: string): string {
    return this.accounting(id)
      .map((line) => line.split(';')[1])
      .join('');
  }

  accounting(id: string): string[] {
    return this.readDays('server_priv/accounting')
      .split('\n')
      .filter((line) => line.split(';')[2] === id);
  }
}

/** Paths, names and numbers of the recording in place of ours. */
export function asRecorded(batch: Batch, text: string, id = ''): string {
  return text
    .replaceAll(batch.home, '/var/spool/torque')
    .replaceAll(batch.account.home, '/home/alice')
    .replaceAll(id === '' ? '\0' : id, 'JOB.vm')
    .replaceAll(batch.account.name, 'alice')
    .replaceAll(`alice@${batch.server}`, 'alice@localhost')
    .replaceAll(batch.queue, 'vmalice');
}

export function splitNul(text: string): string[] {
  return text.split('\0').slice(0, -1);
}

export function parseAttributes(text: string): Map<string, string> {
  return new Map(
    [...text.replace(/\n\t/g, '').matchAll(/^ {4}(\S+) = (.*)$/gm)].map(([, name = '', value = '']) => [
      name,
      value,
    ]),
  );
}
