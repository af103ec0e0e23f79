// What a prologue and an epilogue get, and what their results mean.
import { chmodSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { asRecorded, type Batch, real } from './batch.ts';
import { fixture, fixtureJson } from './recordings.ts';

export function hooksContract(batch: () => Batch): void {
  describe('prologue and epilogue', () => {
    let id: string;

    beforeAll(async () => {
      const wanted = 'nodes=1:ppn=2,walltime=00:30:00,mem=512mb';
      id = await batch().submit('acctjob', 'exit 3\n', '-A', 'prjA', '-l', wanted);
      await batch().ended(id);
    });

    it('get the recorded arguments', () => {
      const recorded = fixtureJson<Record<string, string[]>>('prologue-argv.json')['with_account_exit_3'];
      expect(
        batch()
          .list(id, 'prologue.argv')
          .map((word) => asRecorded(batch(), word, id)),
      ).toEqual(recorded?.map((word) => word.replaceAll('112.vm', 'JOB.vm')));
      const epilogue = fixtureJson<Record<string, string[]>>('epilogue-argv.json')['with_account_exit_3'];
      const mask = (word: string): string =>
        word.replace(/^\d{2,}$/, 'SESSION').replace(/(vmem|mem|walltime|cput)=[\d:]+/g, '$1=N');
      expect(
        batch()
          .list(id, 'epilogue.argv')
          .map((word) => mask(asRecorded(batch(), word, id))),
      ).toEqual(epilogue?.map((word) => mask(word.replaceAll('112.vm', 'JOB.vm'))));
    });

    it.each(['prologue', 'epilogue'])('give the %s the recorded environment and nothing else', (hook) => {
      const words = batch()
        .list(id, `${hook}.environment`)
        .map((word) => asRecorded(batch(), word, id));
      const recorded = fixture('prologue-env.txt').trim().replaceAll('112.vm', 'JOB.vm').split('\n');
      expect(words.sort()).toEqual(recorded.sort());
    });

    it.each([
      ['prologue', '0077'],
      ['epilogue', '0022'],
    ])('run the %s as root with the groups of the user and umask %s', (hook, umask) => {
      const { gid } = batch().account;
      expect(batch().hookContext(id, hook)).toEqual({
        uid: '0',
        gid: '0',
        groups: `0 ${gid}`,
        umask,
        cwd: join(batch().home, 'mom_priv'),
        stdin: '/dev/null',
        stdout: join(batch().home, 'spool', `${id}.OU`),
        stderr: join(batch().home, 'spool', `${id}.ER`),
        leadsSession: true,
      });
    });

    it("write to the job's own output, around the job", async () => {
      const job = await batch().submit('both', 'echo job output\n');
      await batch().ended(job);
      const text = readFileSync(batch().userFile(`both.o${job.split('.')[0]}`), 'utf8');
      expect(text).toBe('prologue output\njob output\nepilogue output\n');
    });

    it("leave the epilogue's exit code without effect", async () => {
      const job = await batch().submit('eexit2', 'exit 5\n');
      expect((await batch().ended(job)).get('exit_status')).toBe('5');
    });
  });

  describe("the prologue's result", () => {
    it('1 ends the job with -2, output stays in the spool directory, the epilogue runs', async () => {
      const id = await batch().submit('pexit1', 'echo never > "$HOME/pexit1.ran"\n');
      const attributes = await batch().ended(id);
      expect(attributes.get('exit_status')).toBe('-2');
      expect(attributes.get('start_count')).toBe('1');
      expect(batch().events(id)).toContain('epilogue end');
      expect(existsSync(join(batch().home, 'spool', `${id}.OU`))).toBe(true);
      expect(existsSync(batch().userFile(`pexit1.o${id.split('.')[0]}`))).toBe(false);
      expect(existsSync(batch().userFile('pexit1.ran'))).toBe(false);
    });

    it.each(['pexit2', 'pexit99'])(
      'of %s is retried without end, with S records and neither E nor R',
      async (name) => {
        const id = await batch().submit(name, 'true\n', '-r', 'n');
        const attributes = await batch().until(id, (found) => Number(found.get('start_count') ?? 0) >= 3);
        expect(attributes.get('exit_status')).toBe('-14');
        expect(attributes.get('Hold_Types')).toBe('n');
        await batch().until(id, () => batch().records(id).length > 3);
        expect(batch().records(id)).toMatch(/^QSSS+$/);
        expect(
          batch()
            .events(id)
            .filter((event) => event === 'epilogue end').length,
        ).toBeGreaterThan(0);
        const log = batch()
          .serverLog(id)
          .find((line) => line.includes('retried'));
        expect(log).toContain(`Job ${id} is being retried due to a failed prologue.`);
        await batch().asRoot('qdel', id);
        await batch().ended(id);
      },
    );

    it('2 ends the job after one attempt where disable_automatic_requeue is set', async () => {
      await batch().manage('set server disable_automatic_requeue = True');
      try {
        const id = await batch().submit('pexit2', 'true\n');
        const attributes = await batch().ended(id);
        expect([attributes.get('exit_status'), attributes.get('start_count')]).toEqual(['-14', '1']);
      } finally {
        await batch().manage('unset server disable_automatic_requeue');
      }
    });

    it('death by a signal counts as success and the job runs', async () => {
      const id = await batch().submit('pkill', 'exit 6\n');
      expect((await batch().ended(id)).get('exit_status')).toBe('6');
    });

    it('is a failure to be retried when the file is writable to the group, or its interpreter is missing', async () => {
      chmodSync(batch().momPriv('prologue'), 0o520);
      const refused = await batch().submit('mode', 'true\n');
      await batch().until(refused, (found) => found.get('exit_status') === '-14');
      await batch().asRoot('qdel', refused);
      batch().setHook('prologue', '#!/nonexistent/interpreter\n');
      const broken = await batch().submit('interpreter', 'true\n');
      await batch().until(broken, (found) => found.get('exit_status') === '-14');
      await batch().asRoot('qdel', broken);
      batch().setHook('prologue');
    });

    it('is success where there is no prologue', async () => {
      rmSync(batch().momPriv('prologue'));
      const id = await batch().submit('absent', 'exit 4\n');
      expect((await batch().ended(id)).get('exit_status')).toBe('4');
      batch().setHook('prologue');
    });

    it('is a failure when it takes longer than $prologalarm less ten seconds', async () => {
      await batch().configureMom(['$prologalarm 12']);
      const begun = Date.now();
      const id = await batch().submit('psleep9', 'true\n');
      await batch().until(id, (found) => found.get('exit_status') === '-14');
      const seconds = (Date.now() - begun) / 1000;
      expect(seconds).toBeGreaterThan(1.9);
      expect(seconds).toBeLessThan(real ? 20 : 4);
      await batch().asRoot('qdel', id);
      await batch().configureMom([]);
      await batch().ended(id);
    });
  });
}
