import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cancel } from '../../../src/ce/cancel.ts';
import { main as cancelMain } from '../../../src/commands/cancel.ts';
import { main as submitMain } from '../../../src/commands/submit.ts';
import type { Torque } from '../../../src/torque/commands.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError } from '../../../src/util/errors.ts';
import type { RunResult } from '../../../src/util/run.ts';
import { type FakeTorque, fakeTorque, recordedCalls } from './fake-torque.ts';

let torque: FakeTorque;
let conf: string;
let grami: string;
let session: string;

beforeEach(() => {
  torque = fakeTorque();
  session = join(torque.directory, 'session');
  mkdirSync(session);
  conf = join(torque.directory, 'arex.cfg');
  writeFileSync(
    conf,
    `[lrms]\nlrms=vmbatch main\npbs_bin_path=${torque.binPath}\n[custom:vmbatch]\nimage=demo\n`,
  );
  grami = join(torque.directory, 'job.ID.grami');
  writeFileSync(grami, gramiText());
});
afterEach(() => torque.remove());

const gramiText = (more = '') => `joboption_directory='${session}'
joboption_controldir='/c'
joboption_gridid='ID'
joboption_arg_0='/bin/echo'
joboption_arg_1='\xff'\\'' $x'
${more}`;

/** Exit code and what lands in job.ID.errors, as src/cli.ts makes them. */
async function call(main: (argv: string[]) => Promise<number>, ...operands: string[]) {
  const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    const code = await main(['--config', conf, ...operands]);
    const said = written.mock.calls.map(([text]) => String(text)).join('');
    return { code, said };
  } catch (thrown) {
    const error = toVmbatchError(thrown);
    return { code: FAULT_OUTCOMES[error.fault].commandExit, said: formatError(error) };
  } finally {
    written.mockRestore();
  }
}

describe('submit', () => {
  it('gives the script to qsub in the session directory and adds the job id to the grami file', async () => {
    torque.answer('qsub', { stdout: '112.vm\n' });
    writeFileSync(grami, gramiText(), 'latin1');
    expect(await call(submitMain, grami)).toEqual({ code: 0, said: 'vmbatch: submitted batch job 112.vm\n' });
    expect(torque.calls()).toEqual([`qsub|${session}|`]);
    expect(readFileSync(grami, 'latin1')).toBe(`${gramiText()}joboption_jobid=112.vm\n`);
    const script = torque.script().toString('latin1');
    expect(script).toMatch(/^#!\/bin\/sh\n(#.*\n)+#VMBATCH image=demo vcpus=1\n\n/);
    expect(script).toContain(`set -- '/bin/echo' '\xff'\\'' $x'\n`);
    expect(readdirSync(session)).toEqual([]);
  });

  it('submits nothing for a grami file that has a job id', async () => {
    writeFileSync(grami, gramiText('joboption_jobid=7.vm\n'));
    expect(await call(submitMain, grami)).toEqual({
      code: 0,
      said: 'vmbatch: batch job 7.vm was submitted before\n',
    });
    expect(torque.calls()).toEqual([]);
  });

  it('deletes the batch job again when its id cannot be reported', async () => {
    torque.answer('qsub', { stdout: '112.vm\n' });
    // The grami file goes away while qsub runs.
    writeFileSync(join(torque.binPath, 'qsub'), `#!/bin/sh\nrm ${grami}\necho 112.vm\n`);
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(4);
    expect(said).toContain('joboption_jobid=112.vm could not be added (ENOENT)');
    expect(torque.calls()).toEqual([expect.stringMatching(/^qdel\|.*\|112\.vm$/)]);
  });

  it('names the batch job that it could not take back', async () => {
    writeFileSync(join(torque.binPath, 'qsub'), `#!/bin/sh\nrm ${grami}\necho 112.vm\n`);
    torque.answer('qdel', { exitCode: 111 });
    const { said } = await call(submitMain, grami);
    expect(said).toContain('batch job 112.vm was submitted');
    expect(said).toContain('what to do: qdel 112.vm');
  });

  it.each([
    ['a missing grami file', () => `${grami}.none`, 4, 'there is no such grami file [grami-missing]'],
    ['a malformed one', () => write('joboption_arg_2=$(id)\n'), 4, 'grami:6: joboption_arg_2: found "$(id)"'],
    [
      'an unclosed quote',
      () => write("joboption_arg_2='x\n"),
      4,
      'grami:6: joboption_arg_2: the quote in "\'x" is not',
    ],
    ['an incomplete one', () => write('joboption_directory=\n'), 4, 'joboption_directory missing or empty'],
    [
      'a binary one',
      () => write('\0\x01\x02'),
      4,
      'grami:6: found "\\u0000\\u0001\\u0002", expected KEY=VALUE',
    ],
    [
      'no session directory',
      () => write("joboption_directory='/none'\n"),
      4,
      'the session directory /none cannot be looked at',
    ],
    [
      'a runtime environment',
      () => write("joboption_runtime_0='ENV/X'\n"),
      1,
      'the runtime environment ENV/X is not available',
    ],
  ])('refuses %s with one clear error and asks TORQUE nothing', async (_, prepare, exitCode, expected) => {
    const { code, said } = await call(submitMain, prepare());
    expect(said).toContain(expected);
    expect(code).toBe(exitCode);
    expect(torque.calls()).toEqual([]);
  });

  const write = (more: string) => {
    writeFileSync(grami, gramiText(more));
    return grami;
  };

  it('submits a job without a name', async () => {
    torque.answer('qsub', { stdout: '1.vm\n' });
    expect((await call(submitMain, grami)).code).toBe(0);
    expect(torque.script().toString()).toContain('\n#PBS -N vmbatch\n');
  });

  const recorded = [...recordedCalls('qsub-errors.txt'), ...recordedCalls('server-down-errors.txt')].filter(
    ({ title, exitCode }) => title.includes('qsub') && exitCode !== 0,
  );
  it('knows every exit code that was recorded of qsub', () => {
    expect([...new Set(recorded.map(({ exitCode }) => exitCode))].sort((a, b) => a - b)).toEqual([
      ...[1, 2, 27, 33, 111, 159, 168, 172, 175, 189, 190, 200, 228],
    ]);
  });

  it.each(recorded)('says what TORQUE means by the failure of: $title', async ({ exitCode, stderr }) => {
    torque.answer('qsub', { exitCode, stderr });
    const before = readFileSync(grami);
    const { code, said } = await call(submitMain, grami);
    expect(said.split('\n')[0]).toMatch(
      /^vmbatch: \w+ fault: qsub for grid job ID in queue main: .* \(exit code \d+: .*\) \[qsub-[a-z-]+\]$/,
    );
    expect(code).toBe({ 2: 70, 168: 1, 190: 1 }[exitCode] ?? 4);
    expect(readFileSync(grami)).toEqual(before);
  });

  it('says each of them as the golden file has it', async () => {
    const all: string[] = [];
    for (const { title, exitCode, stderr } of recorded) {
      torque.answer('qsub', { exitCode, stderr });
      all.push(`$ ${title}\n${(await call(submitMain, grami)).said}\n`);
    }
    await expect(all.join('\n')).toMatchFileSnapshot(
      new URL('../../golden/ce/qsub-errors.txt', import.meta.url).pathname,
    );
  });

  it('does not take other output of qsub for a job id', async () => {
    torque.answer('qsub', { stdout: 'welcome\n1.vm\n' });
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(4);
    expect(said).toContain('found "welcome\\n1.vm" on stdout, must be a job id such as 112.server');
  });

  it('says where to set the path when there is no qsub', async () => {
    chmodSync(join(torque.binPath, 'qsub'), 0o644);
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(4);
    expect(said).toContain('set [lrms] pbs_bin_path to the folder that holds qsub');
  });

  it.each([
    [[], 'found 0 arguments beside --config CONF'],
    [['a', 'b'], 'found 2 arguments beside --config CONF'],
    [['--frobnicate', 'a'], "Unknown option '--frobnicate'"],
  ])('refuses the arguments %j', async (operands, expected) => {
    const { code, said } = await call(submitMain, ...operands);
    expect(said).toContain(expected);
    expect(said).toContain('usage: vmbatch submit --config CONF GRAMI');
    expect(code).toBe(4);
  });
});

describe('cancel', () => {
  beforeEach(() => writeFileSync(grami, gramiText('joboption_jobid=112.vm\n')));

  it('deletes the batch job', async () => {
    expect(await call(cancelMain, grami)).toEqual({
      code: 0,
      said: 'vmbatch: batch job 112.vm is being deleted\n',
    });
    expect(torque.calls()).toEqual([expect.stringMatching(/^qdel\|.*\|112\.vm$/)]);
  });

  it.each([153, 170])('succeeds when qdel says %i: there is nothing left to delete', async (exitCode) => {
    torque.answer('qdel', { exitCode });
    expect((await call(cancelMain, grami)).code).toBe(0);
  });

  it('succeeds without a batch job, and with a grami file that lacks everything else', async () => {
    writeFileSync(grami, "joboption_gridid='ID'\n");
    expect((await call(cancelMain, grami)).code).toBe(0);
    expect(torque.calls()).toEqual([]);
  });

  it.each([159, 1, 99])('fails at once when qdel says %i: the batch job may be there', async (exitCode) => {
    torque.answer('qdel', { exitCode, stderr: 'qdel: something\n' });
    const { code, said } = await call(cancelMain, grami);
    expect(code).toBe(4);
    expect(said).toContain('qdel for job 112.vm: ');
    expect(said).toContain('qdel: something');
    expect(torque.calls()).toHaveLength(1);
  });

  /** qdel's answers one after the other, the last one for ever, on a clock that runs only in pauses and in qdel. */
  function patience(...answers: Partial<RunResult & { takesMs: number }>[]) {
    const waited: number[] = [];
    const timeouts: (number | undefined)[] = [];
    let time = 0;
    const fake: Torque = {
      binPath: undefined,
      run: async (file, args, options) => {
        const { takesMs = 0, ...answer } = answers[Math.min(timeouts.length, answers.length - 1)] ?? {};
        timeouts.push(options?.timeoutMs);
        time += Math.min(takesMs, options?.timeoutMs ?? takesMs);
        return {
          ...{ command: [file, ...args].join(' '), exitCode: 0, signal: undefined, stdout: '', stderr: '' },
          ...{ timedOut: false, cancelled: false, notFound: false, seconds: takesMs / 1000 },
          ...answer,
        };
      },
    };
    const clock = {
      now: () => time,
      pause: async (milliseconds: number) => {
        waited.push(milliseconds);
        time += milliseconds;
      },
    };
    return { result: cancel('112.vm', fake, clock), waited, timeouts, time: () => time };
  }

  it.each([
    ['the server is down', { exitCode: 111 }],
    ['trqauthd is down', { exitCode: 33 }],
    ['the mom is down', { exitCode: 224 }],
    ['qdel gives up on a server that hangs', { exitCode: 237, stderr: 'qdel: Server error (Time out)\n' }],
  ])('asks again when %s, and succeeds when that has passed', async (_, failure) => {
    const { result, waited } = patience(failure, failure, { exitCode: 0 });
    expect(await result).toBe('batch job 112.vm is being deleted');
    expect(waited).toEqual([1_000, 2_000]);
  });

  it('asks again and again for a minute, then fails with what qdel said last', async () => {
    const { result, waited, time } = patience({ exitCode: 111 }, { exitCode: 224, stderr: 'qdel: no mom\n' });
    await expect(result).rejects.toMatchObject({ fault: 'site', code: 'qdel-mom-unreachable' });
    expect(waited).toEqual([1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000]);
    expect(time()).toBeLessThan(60_000);
  });

  it('asks again after an answer that did not come, within the same minute', async () => {
    const stuck = { exitCode: undefined, timedOut: true, takesMs: 1e9 };
    const { result, timeouts, time } = patience({ exitCode: 111, takesMs: 20_000 }, stuck);
    await expect(result).rejects.toMatchObject({ code: 'qdel-timeout' });
    expect(timeouts).toEqual([60_000, 39_000]);
    expect(time()).toBe(60_000);
  });

  it('stops asking as soon as the failure is one that stays', async () => {
    const { result, timeouts } = patience({ exitCode: 111 }, { exitCode: 159 });
    await expect(result).rejects.toMatchObject({ code: 'qdel-not-authorised' });
    expect(timeouts).toHaveLength(2);
  });
});
