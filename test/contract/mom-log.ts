// What the mom writes into its log, compared with the recording.
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Batch, real } from './batch.ts';
import { fixture } from './recordings.ts';

/** Lines about connections, and about zombies, which say how the daemons are built and how busy the machine
 * was. */
const INCIDENTAL = /Socket close detected|not killing process/;

/** What is left of each line: its type, class, object and text without pids and numbers of seconds; in their
 * order. */
function shape(lines: readonly string[], id: string): string[] {
  return lines
    .filter((line) => line !== '' && !INCIDENTAL.test(line))
    .map((line) =>
      line
        .replaceAll(id, 'JOB')
        .replace(/pbs_mom\.\d+/, 'pbs_mom')
        .replace(/\b(pid =|pid|sid=) ?\d+/, '$1 N')
        .replace(/walltime \d+ exceeded limit \d+/, 'walltime N exceeded limit N'),
    );
}

/** Lines of one recorded job, and those that name no job and belong to it by their place. */
function recorded(id: string): string[] {
  const lines = fixture('mom_log.mixed.txt').split('\n');
  const all = lines.map((line) => line.slice(line.indexOf(';') + 1));
  const own = all.flatMap((line, index) => {
    if (line.includes(id)) return [line];
    // Written with the line before it, of the same job.
    const follows = /preobit_preparation/.test(line) && belongs(all, index, id);
    const announces = /job not started|mom_over_limit/.test(line) && (all[index + 1] ?? '').includes(id);
    return follows || announces ? [line] : [];
  });
  return shape(own, id);
}

function belongs(lines: readonly string[], index: number, id: string): boolean {
  const before = lines.slice(0, index).findLast((line) => !INCIDENTAL.test(line)) ?? '';
  return before.includes(id);
}

export function momLogContract(batch: () => Batch): void {
  describe("the mom's log", () => {
    /** What a job adds to the log, from before its submission until its files are gone. */
    async function logged(work: () => Promise<string>): Promise<string[]> {
      const before = batch().momLog().length;
      const id = await work();
      const deadline = Date.now() + 10_000;
      for (;;) {
        const lines = batch().momLog().slice(before);
        if (lines.some((line) => line.includes(`${id};removed job script`))) return shape(lines, id);
        if (Date.now() > deadline) throw new Error(`no end in ${lines.join('\n')}`);
        await sleep(30);
      }
    }

    it('tells of a job that ran as recorded', async () => {
      const lines = await logged(async () => {
        const id = await batch().submit('logrun', 'exit 3\n');
        await batch().ended(id);
        return id;
      });
      expect(lines).toEqual(recorded('65.vm'));
    });

    it('tells of a job whose prologue refused it as recorded', async () => {
      const lines = await logged(async () => {
        const id = await batch().submit('pexit1', 'true\n');
        await batch().ended(id);
        return id;
      });
      // The recording is of a busy machine, whose mom did not wait for the start any more
      // ($jobstartblocktime).
      const late = '01;   pbs_mom;Job;TMOMScanForStarting;job JOB failed after TMomFinalizeJob3';
      const waitedFor = '01;   pbs_mom;Job;exec_job_on_ms;ALERT:  job failed phase 3 start - jobid JOB';
      expect(lines).toEqual(recorded('66.vm').map((line) => (line === late ? waitedFor : line)));
    });

    it('names each process that qdel ends, with the number of the signal, as recorded', async () => {
      const lines = await logged(async () => {
        const id = await batch().submit('logdel', 'exec sleep 300\n');
        await batch().running(id);
        await sleep(real ? 2_000 : 300);
        await batch().asUser('qdel', id);
        await batch().ended(id);
        return id;
      });
      expect([...new Set(lines)]).toEqual(recorded('69.vm'));
      // The login shell and the job's own process.
      expect(lines.filter((line) => line.endsWith('killing pid N task 1 with sig 15'))).toHaveLength(2);
    });

    it('tells of the walltime as recorded', async () => {
      const lines = await logged(async () => {
        const id = await batch().submit('logwall', 'exec sleep 300\n', '-l', 'walltime=1');
        await batch().ended(id);
        return id;
      });
      expect([...new Set(lines)]).toEqual([...new Set(recorded('68.vm'))]);
    });
  });
}
