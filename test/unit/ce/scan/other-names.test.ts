// Batch jobs whose server TORQUE calls otherwise than qsub did.
import { appendFileSync, chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Scanner } from '../../../../src/ce/scan/pass.ts';
import { type ScanOptions, scanOnce } from '../../../../src/ce/scan/scan.ts';
import {
  belongsTo,
  calls,
  control,
  done,
  gridJob,
  log,
  options,
  passes,
  qstat,
  ROOT,
  status,
  torque,
  useScanSite,
} from './site.ts';

useScanSite();

const OURS = '919778.pbs.scm';

describe("a job in TORQUE's list", () => {
  it.each([
    [OURS, '919778.pbs'],
    ['919778.pbs', OURS],
    [OURS, '919778'],
    ['919778', OURS],
    ['33.torque_server', '33.torque_server:15001'],
    ['33.PBS', '33.pbs.example.org'],
  ])('has ended when %s is shown as %s', async (localId, shown) => {
    gridJob('1', { localId, record: 'exitcode=3\n' });
    qstat({ id: shown, state: 'R' });
    expect(await passes(4)).toEqual([]);
    qstat({ id: shown, state: 'C', exitStatus: 3 }, { id: '7.vm', state: 'R' });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(done('1')).toBe('3 Job exited with code 3\n');
    // It was never missing from the list.
    expect(calls().some((call) => call.startsWith('qstat|-x '))).toBe(false);
  });

  it('is not ours under another first name of the server, or with output that goes to another grid job', async () => {
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    qstat(
      { id: '919778.other', state: 'C', exitStatus: 3 },
      { id: '919778.pbs', state: 'C', exitStatus: 3, more: belongsTo('2') },
    );
    expect(await passes(2)).toEqual([]);
    qstat({ id: '919778.pbs', state: 'C', exitStatus: 3, more: belongsTo('1') });
    expect(await scanOnce(options())).toEqual(['1']);
  });

  it('is the one with the very id, whatever others there are', async () => {
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    qstat({ id: '919778.pbs', state: 'C', exitStatus: 3 }, { id: OURS, state: 'R' });
    expect(await passes(4)).toEqual([]);
    expect(log).toEqual([]);
  });

  it('is told of, once, when it may be either of two', async () => {
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    qstat(
      { id: '919778.pbs', state: 'C', exitStatus: 3 },
      { id: '919778.pbs.other', state: 'C', exitStatus: 3 },
    );
    const scanner = new Scanner(options());
    for (let pass = 0; pass < 3; pass++) {
      await scanner.pass();
      await scanner.end();
    }
    expect(done('1')).toBeUndefined();
    expect(
      log.filter((text) =>
        text.includes(`batch job ${OURS}: TORQUE tells of 919778.pbs and 919778.pbs.other`),
      ),
    ).toHaveLength(1);
  });

  it('is nobody’s when two of ours may be meant', async () => {
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    gridJob('2', { localId: '919778.pbs.other', record: 'exitcode=3\n' });
    qstat({ id: '919778.pbs', state: 'C', exitStatus: 3 });
    expect(await passes(1)).toEqual([]);
    expect(log.join('\n')).toMatch(/which job that is cannot be told/);
  });
});

describe("a job in TORQUE's log", () => {
  const withLog = (): ScanOptions => ({ ...options(), logDirectory: join(torque.directory, 'logs') });
  const two = (value: number) => String(value).padStart(2, '0');
  const tell = (job: string, text: string, ago = 60) => {
    mkdirSync(join(torque.directory, 'logs'), { recursive: true });
    const time = new Date(Date.now() - ago * 1000);
    const date = `${two(time.getMonth() + 1)}/${two(time.getDate())}/${time.getFullYear()}`;
    const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.000`;
    const line = `${date} ${clock};16;PBS_Server.1;Job;${job};${text}\n`;
    appendFileSync(join(torque.directory, 'logs', '20261122'), line);
  };
  const END = 'Exit_status=3 resources_used.walltime=00:00:47';

  it.each(['919778.pbs', '919778'])('has ended when the log calls it %s', async (shown) => {
    tell(shown, 'enqueuing into main, state 1 hop 1');
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    qstat({ id: shown, state: 'R' });
    expect(await scanOnce(withLog())).toEqual([]);
    tell(shown, END);
    const job = `<Data><Job><Job_Id>${shown}</Job_Id><job_state>C</job_state><exit_status>3</exit_status></Job></Data>`;
    torque.answer('qstat-job', { stdout: job });
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toBe('3 Job exited with code 3\n');
  });

  it('has ended when the line was there before the grid job', async () => {
    const scanner = new Scanner(withLog());
    tell('919778.pbs', 'enqueuing into main, state 1 hop 1');
    tell('919778.pbs', END);
    tell('5.vm', END);
    qstat();
    await scanner.pass();
    await scanner.end();
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    // TORQUE has forgotten it by now.
    await scanner.pass();
    await scanner.end();
    await scanner.pass();
    expect(done('1')).toBe('3 Job exited with code 3\n');
  });

  it('is not taken for ended by a line about another one, if TORQUE has it running', async () => {
    gridJob('1', { localId: OURS, record: 'exitcode=3\n' });
    qstat({ id: OURS, state: 'R' });
    tell('5.vm', END);
    await scanOnce(withLog());
    tell('919778.pbs', END);
    torque.answer('qstat-job', {
      stdout: `<Data><Job><Job_Id>${OURS}</Job_Id><job_state>R</job_state></Job></Data>`,
    });
    expect(await scanOnce(withLog())).toEqual([]);
    expect(await scanOnce(withLog())).toEqual([]);
  });
});

describe.runIf(ROOT)('a job that A-REX let go of', () => {
  it('is deleted by the name that TORQUE has for it', async () => {
    for (const folder of ['accepting', 'restarting', 'finished']) mkdirSync(join(control, folder));
    gridJob('1', { localId: OURS });
    qstat({ id: '919778.pbs', state: 'R', more: belongsTo('1') });
    await scanOnce(options());
    chmodSync(join(torque.directory, 'calls'), 0o666);
    writeFileSync(join(control, 'finished', 'job.1.status'), 'FINISHED');
    rmSync(status('1'));
    // By the id of qsub it knows none.
    const listed = readFileSync(join(torque.directory, 'qstat.out'), 'utf8');
    writeFileSync(
      join(torque.binPath, 'qstat'),
      `#!/bin/sh\necho "qstat||$*" >> ${torque.directory}/calls\n[ "$2" = 919778 ] || { echo "qstat: Unknown Job Id Error $2" >&2; exit 153; }\ncat <<'X'\n${listed}\nX\n`,
      { mode: 0o755 },
    );
    await scanOnce(options());
    expect(calls().filter((call) => call.startsWith('qdel'))).toEqual(['qdel|919778.pbs']);
  });
});
