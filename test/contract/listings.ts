// What qstat, pbsnodes, qmgr and the accounting files show.
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { asRecorded, type Batch, parseAttributes, real } from './batch.ts';
import { fixture } from './recordings.ts';

export function listingsContract(batch: () => Batch): void {
  describe('qstat and pbsnodes', () => {
    /** Values that differ from run to run, by attribute. */
    const VARYING =
      /^(.*time|resources_used\..*|Job_Owner|.*_Path|Variable_List|e?user|egroup|queue_rank|session_id|total_runtime|init_work_dir|hashname|submit_args|exec_host|Walltime.*|start_count)$/;

    const masked = (attributes: ReadonlyMap<string, string>): [string, string][] =>
      [...attributes].map(([name, value]) => [
        name,
        VARYING.test(name)
          ? '*'
          : asRecorded(
              batch(),
              value.replace(/on \w+ \w+ \d+ at [\d:]+/, 'on DAY at TIME').replace(/^psleep\d+$/, 'psleepN'),
            ),
      ]);

    const recordedJob = (id: string, file = 'qstat-f-1.mixed.txt'): [string, string][] =>
      masked(
        parseAttributes(
          fixture(file)
            .split(/(?=^Job Id: )/m)
            .find((text) => text.startsWith(`Job Id: ${id}\n`)) ?? '',
        ),
      );

    it('show held, finished, failed and waiting jobs as recorded', async () => {
      const blocker = await batch().submit('blocker', 'sleep 300\n', '-l', 'nodes=1:ppn=2');
      const done = await batch().submit('done3', 'exit 3\n');
      const failed = await batch().submit('pexit1', 'true\n');
      await Promise.all([batch().ended(done), batch().ended(failed), batch().running(blocker)]);
      const waiting = await batch().submit('waiting', 'true\n', '-l', 'nodes=1:ppn=4');
      const held = await batch().submit('held', 'true\n', '-h');
      const deleted = await batch().submit('neverdeleted', 'true\n', '-h');
      await batch().asRoot('qdel', deleted);
      await batch().until(waiting, (found) => found.has('comment'));
      for (const [id, recorded] of [
        [done, '65.vm'],
        [failed, '66.vm'],
        [waiting, '70.vm'],
        [held, '71.vm'],
        [deleted, '72.vm'],
      ] as const) {
        expect(masked(await batch().attributes(id)), recorded).toEqual(recordedJob(recorded));
      }
      for (const id of [blocker, waiting, held]) await batch().asRoot('qdel', id);
      await batch().ended(blocker);
    });

    it('show a job in its prologue as recorded: without session at first, then with session 0', async () => {
      await batch().configureMom(['$jobstartblocktime 1']);
      const id = await batch().submit('psleep3', 'true\n');
      await batch().untilEvent(id, 'prologue begin');
      const first = masked(await batch().attributes(id));
      expect(first).toEqual(recordedJob('89.vm', 'qstat-f.in-prologue-first-5s.txt'));
      await batch().until(id, (found) => found.get('substate') === '42');
      const later = masked(await batch().attributes(id));
      expect(later).toEqual(recordedJob('89.vm', 'qstat-f.in-prologue-later.txt'));
      await batch().configureMom([]);
      await batch().asRoot('qdel', '-W', '0', id);
      await batch().ended(id);
    });

    it('show a job whose prologue fails again and again as recorded, while it is back in the queue', async () => {
      const id = await batch().submit('pexit2', 'true\n');
      const again = (found: ReadonlyMap<string, string>): boolean =>
        found.get('job_state') === 'Q' && Number(found.get('start_count') ?? 0) > 1;
      const attributes = await batch().until(id, again);
      expect(masked(attributes)).toEqual(recordedJob('3.vm', 'qstat-f.prologue-exit-2-requeue-loop.txt'));
      await batch().asRoot('qdel', id);
      await batch().ended(id);
    });

    it('show a running job as recorded, in text, folded text and XML', async () => {
      const wanted = 'nodes=1:ppn=2,walltime=00:30:00,mem=512mb,cput=00:20:00';
      const id = await batch().submit('multi', 'sleep 300\n', '-l', wanted, '-j', 'oe', '-A', 'prjA');
      await batch().until(id, (found) => found.has('resources_used.cput'));
      const attributes = await batch().attributes(id);
      expect(masked(attributes)).toEqual(recordedJob('67.vm'));
      const folded = (await batch().asRoot('qstat', '-f', id)).stdout;
      expect(Math.max(...folded.split('\n').map((line) => line.length))).toBeLessThanOrEqual(78);
      expect([...parseAttributes(folded).keys()]).toEqual([...attributes.keys()]);
      expect(folded).toContain('\n\tPBS_O_');
      const shape = (xml: string): string => xml.replace(/>[^<]*</g, '><').trim();
      const xml = (await batch().asRoot('qstat', '-x', id)).stdout;
      expect(shape(xml)).toBe(shape(fixture('qstat-f-x.one-running.xml')));
      expect(xml).toMatch(/<start_time>\d{10}<\/start_time>/);
      const nodes = (await batch().asRoot('pbsnodes', '-x')).stdout;
      const attributesOf = (text: string): string[] =>
        [...text.matchAll(/<(\w+)>/g)].map(([, name = '']) => name);
      expect(attributesOf(nodes)).toEqual(attributesOf(fixture('pbsnodes-x.one-running.xml')));
      const listed = (await batch().asRoot('pbsnodes', '-a')).stdout;
      expect(listed).toContain(`     jobs = ${(attributes.get('exec_host') ?? '').split('/')[1]}/${id}\n`);
      await batch().asRoot('qdel', id);
      await batch().ended(id);
    });

    it('print the recorded headings and columns', async () => {
      const id = await batch().submit('done0', 'true\n');
      await batch().ended(id);
      const plain = (await batch().asRoot('qstat', id)).stdout;
      const [heading, rule, row] = fixture('qstat.mixed.txt').split('\n');
      const user = batch().account.name.slice(0, 15).padEnd(15);
      const shown = plain
        .replace(id.padEnd(26), '64.vm'.padEnd(26))
        .replace(user, 'alice'.padEnd(15))
        .split('\n');
      expect(shown.slice(0, 3)).toEqual([heading, rule, row]);
      const bare = (await batch().asRoot('qstat', id.split('.')[0] ?? '')).stdout;
      expect(bare).toBe(plain);
      const queues = (await batch().asRoot('qstat', '-Q')).stdout.split('\n');
      expect(queues.slice(0, 2)).toEqual(fixture('qstat-Q.txt').split('\n').slice(0, 2));
      const list = (await batch().asRoot('qstat', '-Q', '-f')).stdout;
      const recorded = [...parseAttributes(fixture('qstat-Q-f.empty-queue.txt')).keys()];
      expect([...parseAttributes(list).keys()].filter((name) => recorded.includes(name))).toEqual(recorded);
    });

    it.runIf(!real)('print the recorded qmgr commands that would make this server', async () => {
      const numbered = (text: string): string => text.replace(/next_job_number = \d+/, 'next_job_number = N');
      const printed = (await batch().asRoot('qmgr', '-c', 'print server')).stdout;
      expect(numbered(printed)).toBe(numbered(fixture('qmgr-print-server.txt')));
      const names = (text: string): string[] =>
        [...text.matchAll(/^\t([\w.]+) = /gm)].map(([, name = '']) => name);
      const listed = (await batch().asRoot('qmgr', '-c', 'list server')).stdout;
      const idle = names(fixture('qmgr-list-server.txt')).filter(
        (name) => !name.startsWith('resources_assigned'),
      );
      expect(names(listed)).toEqual(idle);
    });

    it('print one XML document for each id', async () => {
      const ids = [
        await batch().submit('one', 'true\n', '-h'),
        await batch().submit('other', 'true\n', '-h', '-v', 'SIGNS=a&b>c'),
      ];
      const both = (await batch().asRoot('qstat', '-x', ...ids)).stdout;
      const documents = both.split('<?xml version="1.0"?>\n').slice(1);
      expect(documents.map((text) => text.replace(/<Job_Name>.*<\/Job>/s, ''))).toEqual(
        ids.map((id) => `<Data><Job><Job_Id>${id}</Job_Id></Data>\n`),
      );
      // Signs that XML has a meaning for are written as entities.
      expect(both).toContain('SIGNS=a&amp;b&gt;c');
      await batch().asRoot('qdel', ...ids);
    });

    it('still print known jobs beside an unknown one, and end with 153', async () => {
      const id = await batch().submit('known', 'true\n', '-h');
      const result = await batch().asRoot('qstat', '-f', `99999.${batch().server}`, id);
      expect(result.code).toBe(153);
      expect(result.stdout).toContain(`Job Id: ${id}\n`);
      await batch().asRoot('qdel', id);
    });

    it('take a node offline with a note, keep jobs away from it, and bring it back', async () => {
      const node = /^\S+/.exec((await batch().asRoot('pbsnodes', '-a')).stdout)?.[0] ?? '';
      await batch().asRoot('pbsnodes', '-o', '-N', 'disk full', node);
      const shown = (await batch().asRoot('pbsnodes', '-a')).stdout;
      expect(shown).toContain('     state = offline\n');
      expect(shown).toContain('     note = disk full\n');
      const id = await batch().submit('patient', 'true\n');
      await sleep(300);
      expect((await batch().attributes(id)).get('job_state')).toBe('Q');
      await batch().asRoot('pbsnodes', '-c', '-N', '', node);
      await batch().ended(id);
      expect(batch().records(id)).toBe('QSE');
    });

    it('write accounting records with the recorded fields', async () => {
      const id = await batch().submit('done0', 'true\n');
      await batch().ended(id);
      const names = (line: string): string[] =>
        [...line.matchAll(/(?:^|[ ;])([\w.]+)=/g)].map(([, name = '']) => name);
      const recorded = fixture('accounting.mixed.txt').split('\n');
      for (const type of ['Q', 'S', 'E']) {
        const own =
          batch()
            .accounting(id)
            .find((line) => line.split(';')[1] === type) ?? '';
        const other = recorded.find((line) => line.includes(`;${type};64.vm;`)) ?? '';
        expect(names(own)).toEqual(names(other));
        expect(own).toMatch(/^\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d;/);
      }
    });
  });
}
