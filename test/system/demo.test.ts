// The demo and the site as a new user runs them: what they promise, and that nothing stays however they end.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { claimDirectory } from '../site/directory.ts';
import { isGuestOf } from '../site/guests.ts';
import { tryLock } from '../site/lock.ts';
import { failures, Undo } from '../site/undo.ts';

const DEMO_MS = 240_000;
const demo = new URL('../../build/site/demo.cjs', import.meta.url).pathname;
const siteProgram = new URL('../../build/site/site.cjs', import.meta.url).pathname;

const work = mkdtempSync('/var/tmp/vmbatch-demo-test-');
// Sites below it must be reachable for their users.
chmodSync(work, 0o755);
afterAll(() => rmSync(work, { recursive: true, force: true }));

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
  pid: number;
}

/** Runs the demo to its end; `onStdout` is called with all that it has said so far, and may send signals. */
function runDemo(
  args: string[],
  options: { umask?: string; onStdout?: (child: ChildProcess, all: string) => void } = {},
): Promise<Ended> {
  const start = `umask ${options.umask ?? '022'}; exec "$@"`;
  const child = spawn('sh', ['-c', start, 'sh', process.execPath, demo, ...args], { stdio: 'pipe' });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
    options.onStdout?.(child, output.stdout);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  return new Promise((resolve) => {
    child.once('close', (status) => resolve({ status, ...output, pid: child.pid ?? 0 }));
  });
}

function runProgram(program: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

/** What is left of the demo with this process id; those of others do not count. */
function traces({ pid }: { pid: number }) {
  const directory = `/var/tmp/vmbatch-demo-${pid}`;
  const commandLine = (entry: string) => {
    try {
      return readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return '';
    }
  };
  return {
    accounts: readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .filter((line) => line.includes(`:${directory}/`)),
    directory: existsSync(directory),
    processes: readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map(commandLine)
      .filter((words) => words.includes(`${directory}/`)),
  };
}
const NO_TRACES = { accounts: [], directory: false, processes: [] };

describe('the demo', () => {
  it(
    'prints one JSON object that says where the job ran, how long everything took and that nothing is left',
    async () => {
      const ended = await runDemo(['--json']);
      expect(ended).toMatchObject({ status: 0, stderr: '' });
      const result = JSON.parse(ended.stdout);
      const hostBootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      expect(result).toMatchObject({ exitCode: 0, ranInGuest: true });
      expect(['qemu', 'kvm']).toContain(result.hypervisor);
      expect(Object.keys(result.guest)).toEqual(['hostname', 'kernel', 'bootId']);
      expect(result.guest.hostname).toMatch(/^vmbatch-/);
      expect(result.guest.bootId).not.toBe(hostBootId);
      const phases = ['submit', 'queueWait', 'prologue', 'guestBoot', 'job', 'epilogue', 'scan'];
      expect(Object.keys(result.seconds)).toEqual(phases);
      expect(Object.values(result.seconds).every((seconds) => Number(seconds) > 0)).toBe(true);
      expect(result.seconds.guestBoot).toBeLessThan(result.seconds.prologue);
      const nothing = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };
      expect(result.left).toEqual(nothing);
      expect(traces(ended)).toEqual(NO_TRACES);
    },
    DEMO_MS,
  );

  it(
    "shows a job that exits with 7 as A-REX sees it, with a static address and root's files closed to others",
    async () => {
      const ended = await runDemo(['--fail', '7', '--static'], { umask: '077' });
      expect(ended.status).toBe(0);
      expect(ended.stdout).toMatch(/lrms_done: 7 Job exited with code 7/);
      expect(ended.stdout).toMatch(/AN INPUT FILE, TURNED INTO CAPITALS/);
      expect(ended.stdout).not.toContain('\u001b['); // it is not on a terminal
      expect(traces(ended)).toEqual(NO_TRACES);
    },
    DEMO_MS,
  );

  it(
    'runs twice at the same time, each with an account and guests of its own',
    async () => {
      const both = await Promise.all([runDemo(['--json']), runDemo(['--json'])]);
      for (const ended of both) {
        expect(ended).toMatchObject({ status: 0, stderr: '' });
        expect(traces(ended)).toEqual(NO_TRACES);
      }
      expect(new Set(both.map(({ stdout }) => JSON.parse(stdout).guest.hostname)).size).toBe(2);
    },
    DEMO_MS,
  );

  const interruptions: [stage: string, signals: NodeJS.Signals[], exitCode: number][] = [
    ['libvirt', ['SIGINT'], 130],
    ['a stand-in for TORQUE', ['SIGTERM'], 143],
    ['the guest boots', ['SIGINT', 'SIGINT', 'SIGTERM'], 130],
    ['the job runs in the guest', ['SIGTERM'], 143],
    ['the site is taken down', ['SIGINT'], 130],
  ];
  it.each(interruptions)(
    'that is told to end at "%s" by %j ends within 15 s with exit code %i and leaves nothing',
    async (stage, signals, exitCode) => {
      let sentAt = 0;
      const ended = await runDemo([], {
        onStdout: (child, all) => {
          if (sentAt > 0 || !all.includes(`❯ ${stage}`)) return;
          sentAt = performance.now();
          for (const [index, signal] of signals.entries())
            setTimeout(() => child.kill(signal), 20 + index * 100);
        },
      });
      expect(sentAt).toBeGreaterThan(0);
      expect(performance.now() - sentAt).toBeLessThan(15_000);
      expect(ended.status).toBe(exitCode);
      const said = ended.stderr.split('\n').filter((line) => line.startsWith('vmbatch: '));
      expect(said).toEqual([`vmbatch: stopped by ${signals[0]}; all that was started is gone`]);
      expect(traces(ended)).toEqual(NO_TRACES);
    },
    DEMO_MS,
  );

  it.each([
    [['--fail', 'x'], '--fail takes a number from 1 to 255, not "x"'],
    [['--fail', '0'], '--fail takes a number from 1 to 255, not "0"'],
    [['--jsn'], "Unknown option '--jsn'"],
  ])('says in one line what is wrong with %j, and how it is used', (args, message) => {
    expect(runProgram(demo, ...args)).toEqual({
      status: 2,
      stdout: '',
      stderr: `vmbatch: ${message}\nusage: npm run demo [-- [--json] [--fail N] [--static]]\n`,
    });
  });
});

describe('the site', () => {
  it(
    'runs a command with the batch system on its PATH and ends with its exit code',
    () => {
      const directory = join(work, 'run');
      const command = ['sh', '-c', 'qstat -q >/dev/null && test "$VMBATCH_SITE" = "$0" && exit 9', directory];
      expect(runProgram(siteProgram, '--dir', directory, ...command).status).toBe(9);
      expect(existsSync(directory)).toBe(false);
    },
    DEMO_MS,
  );

  it('refuses a directory that holds something else, and leaves that as it is', () => {
    writeFileSync(join(work, 'precious'), 'data');
    const { status, stderr } = runProgram(siteProgram, '--dir', work, 'true');
    expect(status).toBe(1);
    expect(stderr).toMatch(/vmbatch-demo-test-\S* holds something that no site has made: precious /);
    expect(readFileSync(join(work, 'precious'), 'utf8')).toBe('data');
  });

  it.each([[['--dri', '/x']], [['--dir']], [['--dir=']]])(
    'says how it is used when called with %j',
    (args) => {
      const { status, stderr } = runProgram(siteProgram, ...args);
      expect(status).toBe(2);
      expect(stderr).toMatch(/^vmbatch: .*--d(ir|ri).*\nusage: npm run site .*\n$/);
    },
  );
});

describe('claimDirectory', () => {
  it('gives a directory to one site at a time, and takes over what an unfinished one has left', async () => {
    const wanted = join(work, 'claimed');
    const { release } = await claimDirectory(wanted);
    await expect(claimDirectory(join(work, '.', 'claimed/'))).rejects.toMatchObject({ code: 'site-running' });
    await release();
    expect(existsSync(wanted)).toBe(false);
    // As after a SIGKILL: the files are there, and nobody holds the lock.
    mkdirSync(wanted);
    for (const name of ['.vmbatch-site', 'left']) writeFileSync(join(wanted, name), '');
    const again = await claimDirectory(wanted);
    expect(readdirSync(wanted)).toEqual(['.vmbatch-site']);
    await again.release();
  });
});

describe('claimDirectory of a directory that users cannot reach', () => {
  it('says which directory is closed, and makes nothing', async () => {
    const closed = join(work, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const message = expect.stringContaining(`${closed} is closed`);
    await expect(claimDirectory(join(closed, 'site'))).rejects.toMatchObject({ message });
    expect(readdirSync(closed)).toEqual([]);
  });
});

describe('isGuestOf', () => {
  it.each([
    ['vmbatch-3.vmbatch-ce-a1b2c3', true],
    ['vmbatch-3[1].vmbatch-ce-a1b2c3', true],
    ['vmbatch-3.vmbatch-ce-ffffff', false],
    ['vmbatch-3.vmbatch-ce-a1b2c3.example', false],
    ['vmbatch-3.torque.example.org', false],
    ['web.vmbatch-ce-a1b2c3', false],
  ])('takes %s for one of vmbatch-ce-a1b2c3: %s', (domain, expected) => {
    expect(isGuestOf('vmbatch-ce-a1b2c3', domain)).toBe(expected);
  });
});

describe('tryLock', () => {
  it('is had by one holder at a time', async () => {
    const release = await tryLock(`test ${work}`);
    expect(await tryLock(`test ${work}`)).toBeUndefined();
    await release?.();
    const again = await tryLock(`test ${work}`);
    expect(again).toBeDefined();
    await again?.();
  });
});

describe('Undo', () => {
  it('goes backwards, past what fails, and does everything once', async () => {
    const done: string[] = [];
    const undo = new Undo();
    undo.add('remove the first', async () => void done.push('first'));
    undo.add('stop the second', () => Promise.reject(new Error('it is deaf')));
    undo.add('end the third', async () => {
      done.push('third');
      return ['session 3'];
    });
    const lines = await undo.run();
    expect(await undo.run()).toBe(lines);
    expect(done).toEqual(['third', 'first']);
    expect(lines).toEqual(['had to end session 3', 'could not stop the second: it is deaf']);
    expect(failures(lines)).toEqual(['could not stop the second: it is deaf']);
  });
});
