import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { loadGramiAndValues } from '../../../../src/arc/grami.ts';
import { type Submission, submit } from '../../../../src/ce/submit/submit.ts';
import type { RunResult } from '../../../../src/util/processes/run.ts';

let root: string;
let session: string;
let grami: string;
const mark = () => join(session, '.vmbatch-submission');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-attempts-'));
  session = join(root, 'session');
  mkdirSync(session);
  grami = join(root, 'job.ID.grami');
  writeGrami();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function writeGrami(more = ''): void {
  writeFileSync(
    grami,
    `joboption_directory='${session}'\njoboption_controldir='${root}'\njoboption_gridid='ID'\njoboption_arg_0='./x'\n${more}`,
  );
}

/** An error is thrown. */
type Answer = Partial<RunResult> | Error;

interface Attempts {
  result: Promise<Submission>;
  /** `qsub TOKEN`, `qstat`, `qstat ID`, in order. */
  calls: string[];
  /** Milliseconds of each pause. */
  pauses: number[];
  log: () => string;
}

/** A submission with these answers of qsub and qstat, the last of each for ever; `TOKEN` in one is the token
 * that qsub got last. Its clock runs only in pauses; patience is ten minutes. */
function attempts(
  { qsub = [], qstat = [{}] }: { qsub?: Answer[]; qstat?: Answer[] },
  asRead = loadGramiAndValues(grami),
): Attempts {
  const calls: string[] = [];
  const pauses: number[] = [];
  let [time, token, log] = [0, 'none', ''];
  const left = { qsub: [...qsub], qstat: [...qstat] };
  const next = (program: 'qsub' | 'qstat') =>
    (left[program].length > 1 ? left[program].shift() : left[program][0]) ?? {};
  const result = submit({
    ...asRead,
    configuration: parseArcConfiguration(
      '[lrms]\nlrms=vmbatch main\n[custom:vmbatch]\nsubmit_patience=10min\n',
      'arex.cfg',
    ),
    log: (chunk) => {
      log += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    },
    clock: {
      now: () => time,
      pause: async (milliseconds) => {
        pauses.push(milliseconds);
        time += milliseconds;
      },
      random: () => 0.5,
    },
    torque: {
      binPath: undefined,
      run: async (file, args, options) => {
        const program = file === 'qsub' ? 'qsub' : 'qstat';
        token = program === 'qsub' ? (args[1]?.split('=')[1] ?? '') : token;
        calls.push(program === 'qsub' ? `qsub ${token}` : ['qstat', ...args.slice(1)].join(' '));
        const given = next(program);
        if (given instanceof Error) throw given;
        const answer = {
          ...{ command: file, exitCode: 0, signal: undefined, stdout: '', stderr: '', timedOut: false },
          ...{ cancelled: false, notFound: false, seconds: 1 },
          ...given,
        };
        const stdout = answer.stdout.replaceAll('TOKEN', token);
        if (options?.onStdout === undefined) return { ...answer, stdout };
        if (stdout !== '') options.onStdout(Buffer.from(stdout));
        return { ...answer, stdout: '' };
      },
    },
  });
  // Looked at by each test; without this a failure before that would be an unhandled one.
  result.catch(() => undefined);
  return { result, calls, pauses, log: () => log };
}

const job = (id: string, token: string, state = 'Q') =>
  `<Job><Job_Id>${id}</Job_Id><job_state>${state}</job_state><Variable_List>PBS_O_QUEUE=main,VMBATCH_SUBMISSION=${token},PBS_O_HOST=ce</Variable_List></Job>`;
const listing = (...jobs: string[]) => ({ stdout: `<Data>${jobs.join('')}</Data>` });
const TOKEN = '0123456789abcdef0123456789abcdef';
const OTHER = 'f'.repeat(32);
const SUBMITTED = { stdout: '7.ce\n' };

describe('a submission that cannot be made now', () => {
  it.each([
    ['the queue is full', { exitCode: 200 }],
    ['the queue is full for the user', { exitCode: 228 }],
    ['an older server says that the queue is full', { exitCode: 198 }],
    [
      'the queue is full, by an unknown code',
      { exitCode: 77, stderr: 'qsub: Maximum number of jobs already in queue' },
    ],
    ['the queue is disabled', { exitCode: 175 }],
    ['the server is down', { exitCode: 111 }],
    ['trqauthd is down', { exitCode: 33 }],
    ['the server hangs', { exitCode: 237, stderr: 'qsub: submit error (Time out)' }],
  ])('is repeated with the same token when %s', async (_, failure) => {
    const { result, calls, pauses, log } = attempts({ qsub: [failure, failure, SUBMITTED] });
    expect(await result).toEqual({ jobId: '7.ce', how: 'submitted' });
    expect(pauses.filter((pause) => pause > 0)).toHaveLength(2);
    const submissions = calls.filter((call) => call !== 'qstat');
    expect(submissions).toHaveLength(3);
    expect(new Set(submissions).size).toBe(1);
    expect(log().match(/; waiting\n/g)).toHaveLength(1);
    expect(readFileSync(grami, 'utf8')).toMatch(/\njoboption_jobid=7\.ce\n$/);
    expect(readdirSync(session)).toEqual([]);
  });

  it('waits longer and longer, says so every five minutes, and gives up when its patience is at its end', async () => {
    const { result, pauses, log } = attempts({ qsub: [{ exitCode: 200, stderr: 'qsub: full' }] });
    await expect(result).rejects.toMatchObject({
      fault: 'site',
      code: 'qsub-queue-full',
      message:
        'qsub for grid job ID in queue main: the queue is full (exit code 200: qsub: full); waited 542 s',
    });
    expect(pauses.slice(0, 7)).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect(log().match(/; waiting\n/g)).toHaveLength(2);
    expect(readdirSync(session)).toEqual([]);
  });

  it('says no more than people read of a qsub that says too much', async () => {
    for (const failure of [{ exitCode: 190 }, { exitCode: 77 }]) {
      const { result } = attempts({ qsub: [{ ...failure, stderr: 'x'.repeat(100_000) }] });
      await expect(result).rejects.toMatchObject({ message: expect.stringMatching(/^.{300,450}$/) });
    }
  });

  it('is not repeated when the failure is one that stays', async () => {
    const { result, calls } = attempts({ qsub: [{ exitCode: 190 }] });
    await expect(result).rejects.toMatchObject({ fault: 'job', code: 'qsub-resources-exceeded' });
    expect(calls).toHaveLength(1);
    expect(readdirSync(session)).toEqual([]);
  });
});

describe('a submission without room for temporary files', () => {
  const before = process.env['TMPDIR'];
  afterEach(() => {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
  });
  it('says which folder it is and who sets it, and leaves no mark', async () => {
    process.env['TMPDIR'] = join(root, 'none');
    const { result } = attempts({ qsub: [SUBMITTED] });
    await expect(result).rejects.toMatchObject({
      fault: 'site',
      code: 'temporary-file',
      message: expect.stringContaining(`${join(root, 'none')}: `),
      hint: expect.stringContaining('[arex] tmpdir'),
    });
    expect(readdirSync(session)).toEqual([]);
  });
});

it('a submission that fails in a way that nobody thought of keeps its mark only if qsub was started', async () => {
  const crash = async (work: () => Attempts) => {
    await expect(work().result).rejects.toThrow('surprise');
    return readdirSync(session);
  };
  const surprising = (where: 'before' | 'qsub') => {
    const asRead = loadGramiAndValues(grami);
    if (where === 'before')
      Object.defineProperty(asRead.grami, 'args', {
        get: () => {
          throw new TypeError('surprise');
        },
      });
    return attempts({ qsub: [where === 'qsub' ? new TypeError('surprise') : SUBMITTED] }, asRead);
  };
  writeFileSync(mark(), `${TOKEN}\n`);
  expect(await crash(() => surprising('before'))).toEqual([]);
  expect(await crash(() => surprising('qsub'))).toEqual(['.vmbatch-submission']);
});

describe('a submission of which it is not clear what became of it', () => {
  const UNCLEAR: [string, Answer][] = [
    ['qsub did not end', { exitCode: undefined, timedOut: true }],
    ['qsub was killed', { exitCode: undefined, signal: 'SIGKILL' }],
    ['qsub printed something else', { stdout: 'welcome\n7.ce\n' }],
    ['qsub failed in a way of its own', { exitCode: 1, stderr: 'qsub: end of file' }],
    ['qsub exited with a code that nobody knows', { exitCode: 99 }],
  ];
  it.each(UNCLEAR)('is found in TORQUE by its token when %s', async (_, failure) => {
    const { result, calls, pauses } = attempts({
      qsub: [failure],
      qstat: [listing(job('6.ce', OTHER), job('7.ce', 'TOKEN'))],
    });
    expect(await result).toEqual({ jobId: '7.ce', how: 'submitted' });
    expect(calls.map((call) => call.split(' ')[0])).toEqual(['qsub', 'qstat']);
    expect(pauses).toEqual([]);
    expect(readFileSync(grami, 'utf8')).toContain('joboption_jobid=7.ce\n');
  });

  it.each(UNCLEAR.slice(0, 2))('is repeated when it is not there and %s', async (_, failure) => {
    const { result, calls } = attempts({ qsub: [failure, SUBMITTED] });
    expect((await result).jobId).toBe('7.ce');
    expect(calls).toEqual([calls[0], 'qstat', calls[0]]);
  });

  it.each(UNCLEAR.slice(2))('fails when it is not there and %s', async (_, failure) => {
    const { result } = attempts({ qsub: [failure] });
    await expect(result).rejects.toMatchObject({ fault: 'site', code: expect.stringMatching(/^qsub-/) });
    expect(readdirSync(session)).toEqual([]);
  });

  it('is looked for until TORQUE answers completely', async () => {
    const cut = { stdout: `<Data>${job('6.ce', OTHER)}` };
    const { result, calls } = attempts({
      qsub: [{ exitCode: undefined, timedOut: true }],
      qstat: [{ exitCode: 111 }, cut, listing(job('7.ce', 'TOKEN', 'C'))],
    });
    expect((await result).jobId).toBe('7.ce');
    expect(calls.filter((call) => call.startsWith('qsub'))).toHaveLength(1);
  });

  it('says how to find it, and keeps its mark, when TORQUE does not answer in time', async () => {
    const { result, calls } = attempts({ qsub: [{ exitCode: 99 }], qstat: [{ exitCode: 111 }] });
    await expect(result).rejects.toMatchObject({ fault: 'site', code: 'submission-unclear' });
    const token = calls[0]?.split(' ')[1];
    await expect(result).rejects.toMatchObject({
      hint: expect.stringContaining(`VMBATCH_SUBMISSION=${token}`),
    });
    expect(calls.filter((call) => call.startsWith('qsub'))).toHaveLength(1);
    expect(readFileSync(mark(), 'utf8')).toBe(`${token}\n`);
  });
});

describe('a submission after one that did not come to its end', () => {
  it('takes over the batch job with its token, also one that has ended', async () => {
    writeFileSync(mark(), `${TOKEN}\n`);
    const { result, calls } = attempts({ qstat: [listing(job('6.ce', OTHER), job('7.ce', TOKEN, 'C'))] });
    expect(await result).toEqual({ jobId: '7.ce', how: 'adopted' });
    expect(calls).toEqual(['qstat']);
    expect(readFileSync(grami, 'utf8')).toContain('joboption_jobid=7.ce\n');
    expect(readdirSync(session)).toEqual([]);
  });

  it('submits with the same token when TORQUE has no such job', async () => {
    writeFileSync(mark(), `${TOKEN}\n`);
    const { result, calls } = attempts({ qsub: [SUBMITTED], qstat: [listing(job('6.ce', OTHER))] });
    expect((await result).how).toBe('submitted');
    expect(calls).toEqual(['qstat', `qsub ${TOKEN}`]);
  });

  it('does not submit as long as TORQUE does not say', async () => {
    writeFileSync(mark(), `${TOKEN}\n`);
    const { result, calls } = attempts({ qsub: [SUBMITTED], qstat: [{ exitCode: 111 }] });
    await expect(result).rejects.toMatchObject({ code: 'submission-unclear' });
    expect(calls).not.toContain(`qsub ${TOKEN}`);
    expect(readFileSync(mark(), 'utf8')).toBe(`${TOKEN}\n`);
  });

  it('believes a job that wrote its own id, if TORQUE shows its token or has forgotten it', async () => {
    for (const answer of [
      listing(job('7.ce', TOKEN, 'C')),
      { exitCode: 153, stderr: 'qstat: Unknown Job Id Error 7.ce\n' },
    ]) {
      writeGrami();
      writeFileSync(mark(), `${TOKEN}\n7.ce\n`);
      const { result, calls } = attempts({ qstat: [answer] });
      expect(await result).toEqual({ jobId: '7.ce', how: 'adopted' });
      expect(calls).toEqual(['qstat 7.ce']);
    }
  });

  it("never takes somebody else's batch job, whatever the mark says", async () => {
    writeFileSync(mark(), `${TOKEN}\n6.ce\n`);
    const foreign = listing(job('6.ce', OTHER));
    const { result, calls } = attempts({ qsub: [SUBMITTED], qstat: [foreign] });
    expect((await result).jobId).toBe('7.ce');
    expect(calls).toEqual(['qstat 6.ce', 'qstat', `qsub ${TOKEN}`]);
    writeGrami();
    writeFileSync(mark(), `${TOKEN}\n6.ce\n`);
    const own = attempts({ qstat: [foreign, listing(job('6.ce', OTHER), job('8.ce', TOKEN))] });
    expect(await own.result).toEqual({ jobId: '8.ce', how: 'adopted' });
  });

  it.each(['/.vmbatch-submission', '//./x/../.vmbatch-submission', '/.vmbatch-submission/x'])(
    'refuses the input file %s, which would be a mark',
    async (name) => {
      writeGrami(`joboption_inputfile_0='/in'\njoboption_inputfile_1='${name}'\n`);
      writeFileSync(mark(), `${TOKEN}\n6.ce\n`);
      const { result, calls } = attempts({ qsub: [SUBMITTED] });
      await expect(result).rejects.toMatchObject({ fault: 'job', code: 'input-file-refused' });
      expect(calls).toEqual([]);
    },
  );

  it('takes the id that another submit wrote meanwhile', async () => {
    const values = loadGramiAndValues(grami);
    writeGrami('joboption_jobid=9.ce\n');
    const { result, calls } = attempts({ qsub: [SUBMITTED] }, values);
    expect(await result).toEqual({ jobId: '9.ce', how: 'before' });
    expect(calls).toEqual([]);
    expect(readdirSync(session)).toEqual([]);
  });

  it('asks TORQUE nothing when there is no mark', async () => {
    const { result, calls } = attempts({ qsub: [SUBMITTED] });
    await result;
    expect(calls).toEqual([expect.stringMatching(/^qsub [0-9a-f]{32}$/)]);
  });

  it.each([
    ['half a token', () => writeFileSync(mark(), TOKEN.slice(0, 9))],
    ['an option in place of a token', () => writeFileSync(mark(), `-W x=y,${TOKEN}\n`)],
    ['a huge file', () => writeFileSync(mark(), TOKEN.repeat(1000))],
    ['a FIFO', () => execFileSync('/usr/bin/mkfifo', [mark()])],
    [
      'a link to a mark',
      () => {
        writeFileSync(join(root, 'elsewhere'), `${TOKEN}\n`);
        symlinkSync(join(root, 'elsewhere'), mark());
      },
    ],
    ['a link to nothing', () => symlinkSync('/nonexistent', mark())],
  ])('takes %s for nothing', async (_, make) => {
    make();
    const { result, calls } = attempts({ qsub: [SUBMITTED] });
    expect((await result).how).toBe('submitted');
    expect(calls).toEqual([expect.stringMatching(/^qsub [0-9a-f]{32}$/)]);
    expect(calls[0]).not.toContain(TOKEN);
    expect(readdirSync(session)).toEqual([]);
  });

  it('says so when a folder is in the place of the mark', async () => {
    mkdirSync(mark());
    const { result, calls } = attempts({ qsub: [SUBMITTED] });
    await expect(result).rejects.toMatchObject({ fault: 'site', code: 'mark-refused' });
    expect(calls).toEqual([]);
  });
});
