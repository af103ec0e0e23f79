import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Torque } from '../../../../src/batch/torque/commands.ts';
import { cancel } from '../../../../src/ce/cancel.ts';
import { main as cancelMain } from '../../../../src/commands/ce/cancel.ts';
import { main as submitMain } from '../../../../src/commands/ce/submit.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError } from '../../../../src/util/errors.ts';
import type { RunResult } from '../../../../src/util/processes/run.ts';
import { type FakeTorque, fakeTorque, recordedCalls } from '../fake-torque.ts';

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
    `[lrms]\nlrms=vmbatch main\npbs_bin_path=${torque.binPath}\n[custom:vmbatch]\nimage=demo\nsubmit_patience=1s\n`,
  );
  grami = join(torque.directory, 'job.ID.grami');
  writeFileSync(grami, gramiText());
});
afterEach(() => torque.remove());

const gramiText = (more = '') => `joboption_directory='${session}'
joboption_controldir='${torque.directory}'
joboption_gridid='ID'
joboption_arg_0='/bin/echo'
joboption_arg_1='\xff'\\'' $x'
${more}`;

/** Exit code and what lands in job.ID.errors, as src/cli.ts makes them. */
async function call(main: typeof submitMain | typeof cancelMain, ...operands: string[]) {
  let said = '';
  const log = (chunk: Uint8Array | string) => {
    said += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('latin1');
  };
  try {
    const code = await main(['--config', conf, ...operands], log);
    return { code, said };
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'site');
    return { code: FAULT_OUTCOMES[error.fault].commandExit, said: said + formatError(error) };
  }
}

describe('submit', () => {
  it('gives the script to qsub in the session directory and adds the job id to the grami file', async () => {
    torque.answer('qsub', { stdout: '112.vm\n' });
    writeFileSync(grami, gramiText(), 'latin1');
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(0);
    expect(said).toMatch(/\nvmbatch: batch job 112\.vm submitted\n$/);
    expect(torque.calls()).toEqual([
      expect.stringMatching(`^qsub\\|${session}\\|-v VMBATCH_SUBMISSION=[0-9a-f]{32}$`),
    ]);
    expect(readFileSync(grami, 'latin1')).toBe(`${gramiText()}joboption_jobid=112.vm\n`);
    expect(said).toContain(`\n${'-'.repeat(67)}\n${torque.script().toString('latin1')}${'-'.repeat(67)}\n`);
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
    // The grami file goes away while qsub runs.
    writeFileSync(join(torque.binPath, 'qsub'), `#!/bin/sh\nrm ${grami}\necho 112.vm\n`);
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(4);
    expect(said).toContain('joboption_jobid=112.vm could not be added (ENOENT)');
    expect(torque.calls()).toEqual([expect.stringMatching(/^qdel\|.*\|112\.vm$/)]);
    expect(readdirSync(session)).toEqual([]);
  });

  it('names the batch job that it could not take back', async () => {
    writeFileSync(join(torque.binPath, 'qsub'), `#!/bin/sh\nrm ${grami}\necho 112.vm\n`);
    torque.answer('qdel', { exitCode: 111 });
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(4);
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

  it.each(recorded.filter(({ exitCode }) => exitCode !== 2))(
    'ends the job with what TORQUE means by the failure of: $title',
    async ({ exitCode, stderr }) => {
      torque.answer('qsub', { exitCode, stderr });
      const { code } = await call(submitMain, grami);
      expect(code).toBe(0);
      expect(refusal()).toMatch(
        /^vmbatch_refusal=25[02] qsub for grid job ID in queue main: .* \(exit code \d+: .*\)(; waited \d s)?\n$/,
      );
      expect(refusal()).toContain(`=${{ 168: 250, 190: 250 }[exitCode] ?? 252} `);
      expect(readFileSync(grami, 'utf8')).toBe(`${gramiText()}joboption_jobid=refused.ID\n`);
      expect(readdirSync(session)).toEqual([]);
    },
  );

  it('fails, and does not end the job, when it is our own mistake', async () => {
    torque.answer('qsub', { exitCode: 2, stderr: 'usage: qsub ...' });
    expect((await call(submitMain, grami)).code).toBe(70);
    expect(refusal()).toBe('');
    expect(readFileSync(grami, 'utf8')).toBe(gramiText());
  });

  it('says each of them as the golden file has it', async () => {
    const all: string[] = [];
    for (const { title, exitCode, stderr } of recorded) {
      writeFileSync(grami, gramiText());
      torque.answer('qsub', { exitCode, stderr });
      const { said } = await call(submitMain, grami);
      const error = said
        .slice(said.lastIndexOf(`${'-'.repeat(67)}\n`) + 68)
        .replaceAll(/waited \d s/g, 'waited N s');
      all.push(`$ ${title}\n${error.trimEnd()}\n`);
    }
    await expect(all.join('\n')).toMatchFileSnapshot(
      new URL('../../../golden/ce/qsub-errors.txt', import.meta.url).pathname,
    );
  });

  it('ends the job with what qsub printed when that is no job id', async () => {
    torque.answer('qsub', { stdout: 'welcome\n1.vm\n' });
    expect((await call(submitMain, grami)).code).toBe(0);
    expect(refusal()).toContain('found "welcome\\n1.vm" on stdout, must be a job id such as 112.server');
  });

  it('says where to set the path when there is no qsub', async () => {
    chmodSync(join(torque.binPath, 'qsub'), 0o644);
    const { code, said } = await call(submitMain, grami);
    expect(code).toBe(0);
    expect(said).toContain('set [lrms] pbs_bin_path to the folder that holds qsub');
  });

  describe('of a job that cannot be submitted', () => {
    it('writes the reason where the scan finds it, then gives the job an id that says so', async () => {
      writeFileSync(`${session}.diag`, 'from=before\n', { mode: 0o600 });
      writeFileSync(grami, gramiText("joboption_runtime_0='ENV/X'\n"));
      const { code, said } = await call(submitMain, grami);
      expect(code).toBe(0);
      expect(refusal()).toBe(
        'from=before\nBenchmark=HEPSPEC:1.0\nvmbatch_refusal=250 the runtime environment "ENV/X" is not available here: it is missing, its link leads nowhere, or it is not enabled\n',
      );
      expect(readFileSync(grami, 'utf8')).toBe(
        gramiText("joboption_runtime_0='ENV/X'\njoboption_jobid=refused.ID\n"),
      );
      expect(said).toMatch(/^vmbatch: job fault: the runtime environment "ENV\/X" is not available/);
      expect(said).toContain('no batch job: the job gets the id refused.ID and will end with this reason');
      expect(torque.calls()).toEqual([]);
    });

    it('keeps the reason on one line, whatever the job put into it', async () => {
      writeFileSync(grami, gramiText("joboption_runtime_0='a\nexitcode=0\n'\n"));
      await call(submitMain, grami);
      expect(refusal()).toMatch(/^vmbatch_refusal=250 [^\n]*\n$/);
    });

    it.each([
      ['a link', () => symlinkSync(join(torque.directory, 'other'), `${session}.diag`), 'ELOOP'],
      ['a folder', () => mkdirSync(`${session}.diag`), 'EISDIR'],
      ['a FIFO', () => execFileSync('/usr/bin/mkfifo', [`${session}.diag`]), 'ENXIO'],
    ])('fails when the reason would go into %s', async (_, make, why) => {
      make();
      writeFileSync(grami, gramiText("joboption_runtime_0='ENV/X'\n"));
      const { code, said } = await call(submitMain, grami);
      expect(code).toBe(1);
      expect(said).toContain(`session.diag: the reason of the refusal could not be written (${why})`);
      expect(readFileSync(grami, 'utf8')).not.toContain('jobid');
    });

    it('ends a job whose session directory is not there', async () => {
      rmSync(session, { recursive: true });
      expect((await call(submitMain, grami)).code).toBe(0);
      expect(refusal()).toContain(
        `vmbatch_refusal=252 the session directory ${session} cannot be looked at (ENOENT)`,
      );
    });
  });

  const refusal = () => (existsSync(`${session}.diag`) ? readFileSync(`${session}.diag`, 'utf8') : '');

  it('runs stage 0 of runtime environments before it makes the script', async () => {
    mkdirSync(join(torque.directory, 'rte/enabled/ENV'), { recursive: true });
    writeFileSync(
      join(torque.directory, 'rte/enabled/ENV/X'),
      '[ "$1" = 0 ] && joboption_jobname="Name$2"; echo said >&2; true\n',
    );
    writeFileSync(grami, gramiText("joboption_runtime_0='ENV/X'\njoboption_runtime_0_1='Option'\n"));
    torque.answer('qsub', { stdout: '1.vm\n' });
    const { said } = await call(submitMain, grami);
    expect(torque.script().toString()).toContain('\n#PBS -N NameOption\n');
    expect(said).toMatch(/^said\n/);
  });

  it('writes down how long it took where the site asks for that', async () => {
    writeFileSync(
      conf,
      `[common]\nenable_perflog_reporting=expert-debug-on\nperflogdir=${torque.directory}\n${readFileSync(conf, 'utf8')}`,
    );
    torque.answer('qsub', { stdout: '1.vm\n' });
    await call(submitMain, grami);
    expect(readFileSync(join(torque.directory, 'submission.perflog'), 'utf8')).toMatch(
      /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] submit-vmbatch-job, JobScriptCreation: \d+\.\d{3}\n\[.*\] submit-vmbatch-job, JobSubmission: \d+\.\d{3}\n$/,
    );
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

  it('succeeds when the job was refused, and asks TORQUE nothing', async () => {
    writeFileSync(grami, gramiText('joboption_jobid=refused.ID\n'));
    expect(await call(cancelMain, grami)).toEqual({
      code: 0,
      said: 'vmbatch: no batch job to delete: the job was refused (refused.ID)\n',
    });
    expect(torque.calls()).toEqual([]);
  });

  it.each(['-p', 'all', '112.vm 113.vm', '112.vm;id', '112.vm/../x'])(
    'gives qdel nothing that is no job id, and fails since the batch job may be there: %s',
    async (id) => {
      writeFileSync(grami, gramiText(`joboption_jobid='${id}'\n`));
      const { code, said } = await call(cancelMain, grami);
      expect(code).toBe(4);
      expect(said).toContain(
        `nothing was deleted: found joboption_jobid=${JSON.stringify(id)}, must be an id`,
      );
      expect(said).toContain('delete it by hand');
      expect(said).not.toContain('scan tries again');
      expect(torque.calls()).toEqual([]);
    },
  );

  it.each(['33.torque_server', '33.torque.example.org:15001', '33[4].torque_server', '33'])(
    'deletes the batch job %s',
    async (id) => {
      writeFileSync(grami, gramiText(`joboption_jobid='${id}'\n`));
      expect((await call(cancelMain, grami)).said).toBe(`vmbatch: batch job ${id} is being deleted\n`);
      expect(torque.calls().map((one) => one.split('|').at(-1))).toEqual([id]);
    },
  );

  it.each([
    [
      '112.vm',
      'another name of the server',
      'R',
      'batch job 112.vm is being deleted',
      ['112.vm.scm', '-x 112', '112.vm'],
    ],
    ['112', 'no name of the server', 'Q', 'batch job 112 is being deleted', ['112.vm.scm', '-x 112', '112']],
    [
      '112.vm',
      'another name and has ended',
      'C',
      'batch job 112.vm.scm is not known',
      ['112.vm.scm', '-x 112'],
    ],
    [
      '112.other',
      'the number of another server',
      'R',
      'batch job 112.vm.scm is not known',
      ['112.vm.scm', '-x 112'],
    ],
  ])('looks again by its number: TORQUE has %s, with %s, state %s', async (shown, _, state, said, asked) => {
    writeFileSync(grami, gramiText('joboption_jobid=112.vm.scm\n'));
    writeFileSync(
      join(torque.binPath, 'qdel'),
      `#!/bin/sh\necho "qdel||$*" >> ${torque.directory}/calls\n[ "$1" = ${shown} ] || exit 153\n`,
      { mode: 0o755 },
    );
    torque.answer('qstat-job', {
      stdout: `<Data><Job><Job_Id>${shown}</Job_Id><job_state>${state}</job_state></Job></Data>`,
    });
    const { code, said: text } = await call(cancelMain, grami);
    expect(code).toBe(0);
    expect(text).toContain(said);
    expect(torque.calls().map((one) => one.split('|').at(-1))).toEqual(asked);
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

  it.each([2, 168, 190])('takes no exit code of qdel for a fault of the job: %i', async (exitCode) => {
    torque.answer('qdel', { exitCode, stderr: 'qdel: something\n' });
    const { code, said } = await call(cancelMain, grami);
    expect(code).toBe(FAULT_OUTCOMES.site.commandExit);
    expect(said).toContain('vmbatch: site fault: qdel for job 112.vm');
    expect(said).toContain('the scan tries again to delete the batch job');
  });

  /** qdel's answers one after the other, the last one for ever, on a clock that runs only in pauses and in
   * qdel. */
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
