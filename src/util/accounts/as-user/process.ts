// The helper's process, seen from outside: started with the ids of an account, asked, ended. The account may
// do with a process of its own what it likes, so nothing that comes from there is taken for granted.
import { type ChildProcess, spawn } from 'node:child_process';
import { VmbatchError } from '../../errors.ts';
import { helperSource } from './helper-source.ts';
import type { FileOperation, FileResult } from './operations.ts';

/** The account a job is mapped to. */
export interface Account {
  uid: number;
  gid: number;
}

/** How an exchange ended: `answered`: every operation has its result. `hung`: one has had none for too long.
 * `ended`: the helper is no more, or said what it cannot have been asked for. */
export type ExchangeEnd = 'answered' | 'hung' | 'ended';

/** The longest answer: a megabyte of a file, each byte written as `\u0000`. Bytes. */
const MAX_LINE = 16 * 1024 * 1024;
const MAX_LAST_WORDS = 2048;

/** How long a start may take: the name service is asked for the account's groups. Milliseconds. */
const START_MS = 30_000;

/** Accounts that the user database does not have. */
const unlisted = new Set<number>();
/** setpriv of util-linux before 2.33 does not know the option. */
let knowsDeathSignal = true;

/** What starts a program with the account's ids, and with its groups, which the share may need; empty for our
 * own account.
 * @param how `dies`: the program is killed when we are
 * @throws VmbatchError `site` if this process may not become that user */
export function identityArguments({ uid, gid }: Account, how: { dies: boolean }): string[] {
  const own = process.geteuid?.();
  if (own === uid) return [];
  if (own !== 0)
    throw new VmbatchError({
      fault: 'site',
      code: 'as-user-denied',
      message: `uid ${own} cannot act as uid ${uid}`,
      hint: 'scan must run as root, as A-REX starts it',
    });
  const groups = unlisted.has(uid) ? '--clear-groups' : '--init-groups';
  // If we are killed, so is the helper, even in the midst of a call that hangs.
  const death = how.dies && knowsDeathSignal ? ['--pdeathsig', 'KILL'] : [];
  return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, groups, ...death, '--'];
}

/** @param said by a helper that ended at once, on stderr
 * @returns whether another start may go better */
export function learnFrom(said: string, { uid }: Account): boolean {
  if (knowsDeathSignal && said.includes('pdeathsig')) {
    knowsDeathSignal = false;
    return true;
  }
  if (unlisted.has(uid) || !said.includes('--init-groups')) return false;
  unlisted.add(uid);
  return true;
}

export class Helper {
  readonly #child: ChildProcess;
  #said = '';
  #how = '';
  #isStarted = false;
  #onLine: (line: string) => void = () => undefined;
  #onEnd: () => void = () => undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    let begun: Buffer[] = [];
    let length = 0;
    child.stdout?.on('data', (data: Buffer) => {
      let from = 0;
      for (let at = data.indexOf(0x0a); at >= 0; at = data.indexOf(0x0a, from)) {
        const line = Buffer.concat([...begun, data.subarray(from, at)]).toString('utf8');
        [begun, length, from] = [[], 0, at + 1];
        this.#onLine(line);
      }
      if (from === data.length) return;
      begun.push(data.subarray(from));
      length += data.length - from;
      if (length > MAX_LINE) this.#break('its answer is too long');
    });
    child.stderr?.on('data', (data: Buffer) => {
      this.#said = (this.#said + data.toString('latin1')).slice(0, MAX_LAST_WORDS);
    });
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.on('error', () => undefined);
    child.once('error', (error) => {
      const { code } = error as NodeJS.ErrnoException;
      const isMissing = code === 'ENOENT' && child.spawnfile === 'setpriv';
      this.#break(isMissing ? 'setpriv is not installed: install util-linux' : error.message);
    });
    child.once('close', (code, signal) => this.#break(signal ?? `exit code ${code}`));
  }

  /** @param identity what comes before the program */
  static async start(identity: readonly string[]): Promise<Helper> {
    const node = [process.execPath, '--title=vmbatch as-user', '-e', await helperSource()];
    const [program = '', ...args] = [...identity, ...node];
    // Nothing of our environment changes what Node does for the user.
    const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' };
    return new Helper(spawn(program, args, { cwd: '/', env, stdio: ['pipe', 'pipe', 'pipe'] }));
  }

  /** What it, or setpriv, complained of. */
  get said(): string {
    return this.#said;
  }

  /** Why it ended, in one line. */
  get reason(): string {
    const said = this.#said
      .replaceAll(/[^\x21-\x7e]+/g, ' ')
      .trim()
      .slice(0, 300);
    return said === '' ? this.#how : `${this.#how}: ${said}`;
  }

  /** One at a time. */
  async exchange(
    operations: readonly FileOperation[],
    deadlineMs: number,
  ): Promise<{ results: FileResult[]; end: ExchangeEnd }> {
    await this.#started();
    const results: FileResult[] = [];
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout;
      const finish = (end: ExchangeEnd) => {
        clearTimeout(timer);
        this.#onLine = () => undefined;
        this.#onEnd = () => undefined;
        resolve({ results, end });
      };
      const waitForOne = () => {
        clearTimeout(timer);
        timer = setTimeout(() => finish('hung'), deadlineMs);
      };
      this.#onEnd = () => finish('ended');
      this.#onLine = (line) => {
        const result = parseResult(line);
        if (result === undefined) return this.#break('its answer is none');
        results.push(result);
        if (results.length === operations.length) finish('answered');
        else waitForOne();
      };
      waitForOne();
      if (this.#how !== '') return finish('ended');
      const lines = operations.map((operation) => `${JSON.stringify(operation)}\n`);
      this.#child.stdin?.write(lines.join(''));
    });
  }

  /** Its first line, which is empty, says that it has started. */
  async #started(): Promise<void> {
    if (this.#isStarted || this.#how !== '') return;
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => this.#break(`it did not start within ${START_MS / 1000} s`), START_MS);
      this.#onLine = this.#onEnd = () => {
        clearTimeout(late);
        resolve();
      };
    });
    this.#isStarted = true;
  }

  /** Killed, it may still wait for a server that is away; nothing of ours waits for it. */
  end(): void {
    const { stdin, stdout, stderr } = this.#child;
    for (const stream of [stdin, stdout, stderr]) stream?.destroy();
    this.#child.kill('SIGKILL');
    this.#child.unref();
    this.#break('it was told to end');
  }

  #break(how: string): void {
    this.#how ||= how;
    this.#onEnd();
  }
}

/** Undefined if it is none. */
function parseResult(line: string): FileResult | undefined {
  try {
    const said: unknown = JSON.parse(line);
    if (typeof said !== 'object' || said === null || !('ok' in said)) return undefined;
    if (said.ok === true && 'found' in said && typeof said.found === 'boolean') {
      const { found } = said;
      if (!('data' in said)) return { ok: true, found };
      return typeof said.data === 'string' ? { ok: true, found, data: said.data } : undefined;
    }
    if (said.ok !== false || !('why' in said) || typeof said.why !== 'string') return undefined;
    const errno = 'errno' in said && typeof said.errno === 'string' ? said.errno.slice(0, 32) : undefined;
    return { ok: false, why: said.why.slice(0, 300), errno };
  } catch {
    return undefined;
  }
}
