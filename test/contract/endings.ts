// Ends of jobs that are not their own: qdel, walltime, a mom or a server that goes away.
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Batch, real } from './batch.ts';
import { fixture, recordedCommand } from './recordings.ts';

/** Within $jobstartblocktime of a start, TORQUE takes a mom that goes away for a start that failed. */
const SETTLED_MS = real ? 6_000 : 0;

export function endingsContract(batch: () => Batch): void {
  describe('qdel', () => {
    it('ends a queued or held job at once, without exit status, with a D record only', async () => {
      const id = await batch().submit('held', 'true\n', '-h');
      expect((await batch().asUser('qdel', id)).code).toBe(0);
      const attributes = await batch().ended(id);
      expect(attributes.get('exit_status')).toBeUndefined();
      expect(batch().records(id)).toBe('QD');
      expect(batch().events(id)).toEqual([]);
    });

    it('ends a running job with 271, with the recorded log lines, and delivers its output', async () => {
      const id = await batch().submit('delrun', 'echo so far; sleep 300\n');
      await batch().running(id);
      await sleep(300);
      expect((await batch().asUser('qdel', id)).code).toBe(0);
      const attributes = await batch().ended(id);
      expect(attributes.get('exit_status')).toBe('271');
      expect(batch().records(id)).toBe('QSDE');
      expect(readFileSync(batch().userFile(`delrun.o${id.split('.')[0]}`), 'utf8')).toContain('so far\n');
      const log = batch().serverLog(id).join('\n');
      const user = batch().account.name;
      expect(log).toMatch(new RegExp(`;08;PBS_Server\\.\\d+;Job;${id};Job deleted at request of ${user}@`));
      expect(log).toMatch(new RegExp(`;08;PBS_Server\\.\\d+;Job;${id};Job sent signal SIGTERM on delete`));
      expect(log).toMatch(
        new RegExp(`;16;PBS_Server\\.\\d+;Job;${id};Exit_status=271 resources_used\\.cput=`),
      );
    });

    it('gives a shell that survives SIGTERM the kill delay, then SIGKILL: 265', async () => {
      const shell = join(batch().directory, 'stubborn');
      writeFileSync(
        shell,
        '#!/bin/bash\ntrap "echo caught" TERM\nread -r script\nwhile :; do sleep 0.1; done\n',
      );
      chmodSync(shell, 0o755);
      const id = await batch().submit('stubborn', 'true\n', '-S', shell);
      await batch().running(id);
      await sleep(200);
      const begun = Date.now();
      await batch().asUser('qdel', id);
      expect((await batch().ended(id)).get('exit_status')).toBe('265');
      // TORQUE looks at its clock once a second.
      expect((Date.now() - begun) / 1000).toBeGreaterThan(real ? 0.9 : 1.9);
      expect(readFileSync(batch().userFile(`stubborn.o${id.split('.')[0]}`), 'utf8')).toContain('caught\n');
    });

    it('in the prologue: the epilogue runs beside it, the job ends with 0 and never runs', async () => {
      // Longer than $jobstartblocktime and the time that TORQUE waits after a qdel: 5 + 3 s.
      const id = await batch().submit(`psleep${real ? 13 : 5}`, 'touch "$HOME/psleep.ran"\n');
      await batch().untilEvent(id, 'prologue begin');
      await batch().asRoot('qdel', id);
      const attributes = await batch().ended(id);
      expect(attributes.get('exit_status')).toBe('0');
      await batch().untilEvent(id, 'prologue end');
      expect(batch().events(id)).toEqual([
        'prologue begin',
        'epilogue begin',
        'epilogue end',
        'prologue end',
      ]);
      const told = (lines: readonly string[], job: string): string[] =>
        lines
          .map((line) =>
            line
              .replaceAll(job, 'JOB')
              .split(';')
              .slice(1)
              .join(';')
              .replace(/\.\d+;/, '.PID;'),
          )
          .map((line) => line.replace(`root@${batch().server}`, 'root@localhost'))
          .filter((line) => line.includes('JOB') && !/;node;|email|dequeuing|Exit_status/.test(line));
      const recorded = fixture('server_log.qdel-during-prologue.txt').split('\n');
      expect(told(batch().serverLog(id), id)).toEqual(told(recorded, '38.vm'));
      await sleep(200);
      expect(existsSync(batch().userFile('psleep.ran'))).toBe(false);
    });

    it('-p forgets the job at once, without records; the mom ends it later and runs the epilogue', async () => {
      const id = await batch().submit('sigP', 'sleep 300\n');
      await batch().running(id);
      await batch().asRoot('qdel', '-p', id);
      expect((await batch().asRoot('qstat', id)).code).toBe(153);
      await batch().untilEvent(id, 'epilogue end');
      expect(batch().list(id, 'epilogue.argv')[10]).toBe('271');
      expect(batch().records(id)).toBe('QS');
    });

    it.each([
      ['qdel 999.vm', ['qdel', '999.vm']],
      ['qdel -p 999.vm', ['qdel', '-p', '999.vm']],
      ['qdel notanid', ['qdel', 'notanid']],
      ['qstat 999.vm', ['qstat', '999.vm']],
      ['qstat -f -x 999.vm', ['qstat', '-f', '-x', '999.vm']],
      ['qstat nosuchqueue', ['qstat', 'nosuchqueue']],
      ['qdel', ['qdel']],
    ])('and qstat answer %s with the recorded words', async (command, argv) => {
      const recorded = recordedCommand('qdel-qstat-errors.txt', command);
      const words = argv.map((word) => word.replace('999.vm', `99999.${batch().server}`));
      const result = await batch().asUser(...words);
      expect(result.code).toBe(recorded.code);
      expect(result.stderr.replace(`99999.${batch().server}`, '999.vm').trim()).toBe(recorded.stderr);
    });

    it('of a finished job, and qsig, end with 170', async () => {
      const id = await batch().submit('done', 'true\n');
      await batch().ended(id);
      for (const argv of [
        ['qdel', id],
        ['qsig', '-s', 'TERM', id],
      ]) {
        const result = await batch().asUser(...argv);
        expect(result.code).toBe(170);
        expect(result.stderr).toBe(
          `${argv[0]}: Request invalid for state of job MSG=invalid state for job - COMPLETE ${id}\n`,
        );
      }
    });

    it('ends a job over its walltime with -11 and tells the user', async () => {
      const id = await batch().submit('wallkill', 'sleep 300\n', '-l', 'walltime=1');
      expect((await batch().ended(id)).get('exit_status')).toBe('-11');
      const text = readFileSync(batch().userFile(`wallkill.e${id.split('.')[0]}`), 'utf8');
      expect(text).toMatch(/^=>> PBS: job killed: walltime \d+ exceeded limit 1$/m);
      expect(batch().serverLog(id).join('\n')).not.toContain('walltime 1 ');
    });
  });

  describe('a mom that is killed and started again', () => {
    it('keeps a running job, whose exit code is then lost: 0', async () => {
      const id = await batch().submit('m_long', 'sleep 1.5\ntouch "$HOME/m_long.ran"\nexit 4\n');
      await batch().running(id);
      await batch().killMom('SIGKILL');
      const refused = await batch().asRoot('qdel', `99999.${batch().server}`);
      expect(refused.code).toBe(153);
      await batch().startMom('-p');
      expect((await batch().ended(id)).get('exit_status')).toBe('0');
      expect(existsSync(batch().userFile('m_long.ran'))).toBe(true);
      expect(batch().events(id)).toContain('epilogue end');
    });

    it.each(['-q', '-r'] as const)('with %s kills and requeues it: its start_count is 2', async (mode) => {
      const mark = `again${mode}`;
      const script = `if [ -e "$HOME/${mark}" ]; then exit 4; fi; touch "$HOME/${mark}"; sleep 300\n`;
      const id = await batch().submit('m_again', script);
      await batch().until(id, () => existsSync(batch().userFile(mark)));
      await batch().running(id);
      await sleep(SETTLED_MS);
      await batch().killMom('SIGKILL');
      await batch().startMom(mode);
      const attributes = await batch().ended(id);
      expect([attributes.get('exit_status'), attributes.get('start_count')]).toEqual(['4', '2']);
      expect(batch().records(id)).toBe('QSSE');
      expect(
        batch()
          .events(id)
          .filter((event) => event === 'epilogue end'),
      ).toHaveLength(2);
    });

    it.each(['-q', '-r'] as const)('with %s ends a job that is not rerunnable with -4', async (mode) => {
      const id = await batch().submit('m_once', 'sleep 300\n', '-r', 'n');
      await batch().running(id);
      await sleep(SETTLED_MS);
      await batch().killMom('SIGKILL');
      await batch().startMom(mode);
      const attributes = await batch().ended(id);
      expect([attributes.get('exit_status'), attributes.get('start_count')]).toEqual(['-4', '1']);
      expect(
        batch()
          .events(id)
          .filter((event) => event === 'epilogue end'),
      ).toHaveLength(1);
    });

    it('lets prologue and job run on while it is away, makes qdel fail with 224, and ends the job with -3', async () => {
      const id = await batch().submit(`psleep${real ? 9 : 1}`, 'touch "$HOME/alone.ran"\n');
      await batch().untilEvent(id, 'prologue begin');
      await sleep(SETTLED_MS);
      await batch().killMom('SIGKILL');
      const deadline = Date.now() + 10_000;
      while (!existsSync(batch().userFile('alone.ran')) && Date.now() < deadline) await sleep(50);
      expect(existsSync(batch().userFile('alone.ran'))).toBe(true);
      const down = Date.now() + (real ? 200_000 : 0);
      const nodes = async () => (await batch().asRoot('pbsnodes', '-a')).stdout;
      while (!(await nodes()).includes('state = down') && Date.now() < down) await sleep(1_000);
      expect(await nodes()).toMatch(/state = down/);
      expect((await batch().attributes(id)).get('job_state')).toBe('R');
      const refused = await batch().asRoot('qdel', id);
      expect(refused.code).toBe(224);
      expect(refused.stderr).toContain('Server could not connect to MOM');
      await batch().startMom('-p');
      expect((await batch().ended(id)).get('exit_status')).toBe('-3');
      expect(batch().events(id)).toContain('epilogue end');
    });
  });

  describe.runIf(!real)('a server that is away', () => {
    it.each([
      ['qstat', ['qstat']],
      ['qdel 104.vm', ['qdel', '104.vm']],
      ['qsub work0.sh', ['qsub', 'work0.sh']],
      ['pbsnodes -a', ['pbsnodes', '-a']],
    ])('makes %s end with the recorded words', async (command, argv) => {
      batch().writeScript('work0.sh', 'exit 0\n');
      await batch().stopServer();
      const recorded = recordedCommand('server-down-errors.txt', command);
      const result = await batch().asUser(...argv);
      await batch().startServer();
      expect(result.code).toBe(recorded.code);
      expect(result.stderr.trim()).toBe(recorded.stderr);
    });

    it('finds running jobs again and hears of those that ended meanwhile', async () => {
      const id = await batch().submit('through', 'sleep 0.5; exit 9\n');
      await batch().running(id);
      await batch().stopServer();
      await sleep(900);
      await batch().startServer();
      expect((await batch().ended(id)).get('exit_status')).toBe('9');
    });
  });
}
