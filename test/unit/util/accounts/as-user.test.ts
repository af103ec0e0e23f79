import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { helperInBundle } from '../../../../scripts/bundled-helper.mjs';
import {
  openUserFiles,
  performAs,
  removeUsersFile,
  type UserFiles,
} from '../../../../src/util/accounts/as-user.ts';

const ROOT = process.getuid?.() === 0;
const NOBODY = { uid: 65534, gid: 65534 };
const SELF = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const USER = ROOT ? NOBODY : SELF;
/** Nobody has it. */
const UNLISTED = { uid: 54321, gid: 54321 };

let directory: string;
let files: UserFiles;

const at = (name: string) => join(directory, name);
const put = (name: string, text: string, owner = USER) => {
  writeFileSync(at(name), text, { mode: 0o600 });
  if (ROOT) chownSync(at(name), owner.uid, owner.gid);
};
const read = (name: string) => ({ do: 'read', path: at(name), maxBytes: 1000, longer: 'refuse' }) as const;

/** Helpers that are this process's children. */
function helpers(parent = process.pid): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return state !== 'Z' && Number(ppid) === parent && statusOf(pid).includes('vmbatch as-user');
      } catch {
        return false; // it has ended
      }
    });
}
const statusOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, 'latin1');

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !condition(); tries++) await setTimeout(20);
  expect(condition()).toBe(true);
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-as-'));
  chmodSync(directory, 0o777);
  files = openUserFiles(USER, { deadlineMs: 10_000 });
});
afterEach(() => {
  files.close();
  rmSync(directory, { recursive: true });
});

describe('files of a user', () => {
  it.runIf(!ROOT)('are refused to a process that is neither root nor that user', async () => {
    await expect(performAs({ uid: 1, gid: 1 }, [read('x')])).rejects.toThrow('cannot act as uid 1');
  });

  it('are read, written in place, appended to once, replaced and removed', async () => {
    put('log', 'begin\n');
    put('diag', 'a much longer text than what comes');
    const bytes = String.fromCharCode(...Array.from({ length: 256 }, (_, byte) => byte));
    const append = { do: 'append', path: at('log'), data: 'mine\n', unlessHas: 'mine' } as const;
    const results = await files.perform([
      append,
      append,
      { do: 'overwrite', path: at('diag'), data: bytes },
      read('diag'),
      read('nothing'),
      { do: 'make-directory', path: at('a/b'), emptied: false },
      { do: 'replace', path: at('a/b/c'), data: 'x' },
      { do: 'make-directory', path: at('a'), emptied: true },
      { do: 'remove', path: at('log2') },
    ]);
    expect(results.slice(3)).toEqual([
      { ok: true, found: true, data: bytes },
      { ok: true, found: false },
      { ok: true, found: true },
      { ok: true, found: true },
      { ok: true, found: true },
      { ok: true, found: false },
    ]);
    expect(readFileSync(at('log'), 'utf8')).toBe('begin\nmine\n');
    expect(statSync(at('a'))).toMatchObject(USER);
    expect(readdirSync(at('a'))).toEqual([]);
  });

  it('a long file gives its beginning and end, or is refused', async () => {
    put('long', `${'a'.repeat(50)}${'b'.repeat(50)}`);
    const [some, none] = await files.perform([
      { do: 'read', path: at('long'), maxBytes: 20, longer: 'leave-out-the-middle' },
      { do: 'read', path: at('long'), maxBytes: 20, longer: 'refuse' },
    ]);
    expect(some).toMatchObject({ data: 'aaaaaaaaaa\n[... 80 bytes left out ...]\nbbbbbbbbbb' });
    expect(none).toEqual({ ok: false, why: 'has 100 bytes, at most 20 are read' });
  });

  it('nothing but a regular file is opened: no link, no FIFO with or without another end, no folder', async () => {
    put('target', 'secret');
    symlinkSync(at('target'), at('link'));
    symlinkSync('/etc/hosts', at('gone'));
    for (const fifo of ['fifo', 'held']) execFileSync('mkfifo', ['-m', '666', at(fifo)]);
    const holder = spawn('sh', ['-c', `exec 3<>${at('held')}; exec sleep 60`], { stdio: 'ignore' });
    mkdirSync(at('folder'), { mode: 0o777 });
    const names = ['link', 'gone', 'fifo', 'held', 'folder'];
    const results = await files.perform(
      names.flatMap((name) => [
        read(name),
        { do: 'overwrite', path: at(name), data: 'x' },
        { do: 'append', path: at(name), data: 'x' },
      ]),
    );
    holder.kill('SIGKILL');
    expect(results).toHaveLength(15);
    for (const result of results) expect(result).toMatchObject({ ok: false });
    expect(readFileSync(at('target'), 'utf8')).toBe('secret');
  });

  it.runIf(ROOT)("root's files are neither read nor written through a user's folder", async () => {
    put('secret', 'x', { uid: 0, gid: 0 });
    const [look, change] = await files.perform([
      read('secret'),
      { ...read('secret'), do: 'overwrite', data: 'y' },
    ]);
    expect(look).toEqual({ ok: false, why: 'cannot be read (EACCES)', errno: 'EACCES' });
    expect(change).toMatchObject({ ok: false, errno: 'EACCES' });
  });

  it.runIf(ROOT)("the helper has the account's ids and groups from its start, and no others", async () => {
    const name = execFileSync('id', ['-nu', String(NOBODY.uid)], { encoding: 'utf8' }).trim();
    const own = execFileSync('id', ['-G', name], { encoding: 'utf8' }).trim();
    for (const [account, groups] of [
      [NOBODY, own],
      [UNLISTED, ''],
    ] as const) {
      const theirs = openUserFiles(account);
      await theirs.perform([read('x')]);
      const [pid = 0] = helpers();
      const status = readFileSync(`/proc/${pid}/status`, 'latin1');
      expect(status).toContain(`Uid:\t${Array(4).fill(account.uid).join('\t')}\n`);
      expect(status).toContain(`Gid:\t${Array(4).fill(account.gid).join('\t')}\n`);
      expect(/^Groups:\t(.*?) *$/m.exec(status)?.[1]).toBe(groups);
      expect(/^CapEff:\t(.*)$/m.exec(status)?.[1]).toBe('0'.repeat(16));
      theirs.close();
      await until(() => helpers().length === 0);
    }
  });

  it.runIf(ROOT)(
    'a file in a folder of the site is removed by root, or as its owner where root is nobody',
    async () => {
      put('ready', 'x');
      await removeUsersFile(at('ready'), NOBODY);
      expect(existsSync(at('ready'))).toBe(false);
      await removeUsersFile(at('ready'), NOBODY);
    },
  );
});

describe('the helper', () => {
  it('is one process for all operations, and ends when it is closed', async () => {
    await files.perform([read('x')]);
    const [pid] = helpers();
    await files.perform([read('x')]);
    expect(helpers()).toEqual([pid]);
    files.close();
    await until(() => helpers().length === 0);
  });

  it('ends by itself when there is nothing to do for a while', async () => {
    const theirs = openUserFiles(USER, { idleMs: 100 });
    await theirs.perform([read('x')]);
    await until(() => helpers().length === 0);
    expect(await theirs.perform([read('x')])).toEqual([{ ok: true, found: false }]);
    theirs.close();
  });

  it('that was killed while it waited is replaced unnoticed', async () => {
    await files.perform([read('x')]);
    for (const pid of helpers()) process.kill(pid, 'SIGKILL');
    await until(() => helpers().length === 0);
    expect(await files.perform([read('x')])).toEqual([{ ok: true, found: false }]);
  });

  it('that hangs is ended at the deadline, and another one goes on', async () => {
    const theirs = openUserFiles(USER, { deadlineMs: 1_000 });
    await theirs.perform([read('x')]);
    const [pid = 0] = helpers();
    process.kill(pid, 'SIGSTOP');
    expect(await theirs.perform([read('x')])).toEqual([]);
    await until(() => helpers().length === 0);
    const absent = { ok: true, found: false };
    expect(await theirs.perform([read('x')])).toEqual([absent]);
    for (const next of helpers()) process.kill(next, 'SIGSTOP');
    expect(await theirs.perform([read('x'), read('y')])).toEqual([absent, absent]);
    theirs.close();
  });

  it.runIf(ROOT)(
    'that hangs in the midst of many operations: those before it are known, those after it left out',
    async () => {
      mkdirSync(at('hung'));
      const program = join(import.meta.dirname, '../../../support/hung-share.py');
      const server = spawn('python3', [program, at('hung')], { stdio: ['pipe', 'pipe', 'inherit'] });
      await new Promise((resolve) => server.stdout?.once('data', resolve));
      put('log', '');
      const theirs = openUserFiles(USER, { deadlineMs: 500 });
      const append = { do: 'append', path: at('log'), data: 'x', unlessHas: 'x' } as const;
      const results = await theirs.perform([append, read('log'), read('hung/1'), append, read('log')]);
      expect(results).toEqual([
        { ok: true, found: true },
        { ok: true, found: true, data: 'x' },
      ]);
      theirs.close();
      const over = new Promise((resolve) => server.once('exit', resolve));
      server.stdin?.end();
      await over;
      expect(readFileSync(at('log'), 'utf8')).toBe('x');
    },
  );

  it('whose Node cannot be started says so with the reason', async () => {
    const { execPath } = process;
    process.execPath = at('no-node');
    try {
      await expect(files.perform([read('x')])).rejects.toMatchObject({
        code: 'as-user-ended',
        message: expect.stringMatching(/no-node/),
      });
    } finally {
      process.execPath = execPath;
    }
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'does not outlive whoever started it when that is ended by %s',
    async (signal) => {
      const program = at('program.mjs');
      await build({
        stdin: {
          contents: `import { openUserFiles } from './src/util/accounts/as-user.ts';
          const files = openUserFiles(${JSON.stringify(USER)});
          await files.perform([{ do: 'remove', path: '/nonexistent/x' }]);
          setInterval(() => undefined, 1000);`,
          resolveDir: join(import.meta.dirname, '../../../..'),
        },
        ...{ bundle: true, platform: 'node', format: 'esm', outfile: program, logLevel: 'error' },
        plugins: [helperInBundle],
      });
      const child = spawn(process.execPath, [program], { stdio: 'inherit' });
      await until(() => helpers(child.pid).length === 1);
      const [pid = 0] = helpers(child.pid);
      // As one that hangs: it cannot see that nobody is there any more.
      process.kill(pid, 'SIGSTOP');
      child.kill(signal);
      await until(() => !existsSync(`/proc/${pid}`));
    },
  );
});

it('no part of the program changes the ids of its own process: Node may refuse', () => {
  const root = join(import.meta.dirname, '../../../../src');
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.m?ts$/.test(name),
  );
  expect(names.length).toBeGreaterThan(200);
  const changing = names.filter((name) =>
    /\b(sete?[ug]id|setgroups|initgroups)\b/.test(readFileSync(join(root, name), 'utf8')),
  );
  expect(changing).toEqual([]);
});
