// What qsub refuses, in which words, and what it takes from the script.
import { beforeAll, describe, expect, it } from 'vitest';
import { asRecorded, type Batch, real } from './batch.ts';
import { recordedCommand } from './recordings.ts';

export function submissionContract(batch: () => Batch): void {
  describe('qsub', () => {
    beforeAll(() => {
      batch().writeScript('work0.sh', 'exit 0\n');
      batch().writeScript('bad.sh', '#PBS -Y\ntrue\n');
      batch().writeScript('depend.sh', '#PBS -W depend=afterany:1.vm\ntrue\n');
    });

    const cases: [title: string, argv: string[]][] = [
      ['unknown queue', ['-q', 'nosuchqueue', 'work0.sh']],
      ['malformed resource', ['-l', 'nodes=abc:ppn=x', 'work0.sh']],
      ['unknown resource name', ['-l', 'frobnicate=3', 'work0.sh']],
      ['more processors than any node has', ['-l', 'nodes=1:ppn=99', 'work0.sh']],
      ['bad walltime', ['-l', 'walltime=abc', 'work0.sh']],
      ['script file missing', ['/nonexistent.sh']],
      ['bad option', ['-Z', 'work0.sh']],
      ['bad directive in the script', ['bad.sh']],
      ['job name with a space', ['-h', '-N', 'a b', 'work0.sh']],
      ['empty script', ['-h', '-N', 'empty', '/dev/null']],
    ];
    it.each(cases)('refuses: %s, with the recorded words', async (title, argv) => {
      const recorded = recordedCommand('qsub-errors.txt', title);
      const result = await batch().asUser('qsub', ...argv);
      expect(result.code).toBe(recorded.code);
      expect(result.stderr.trim()).toBe(recorded.stderr);
    });

    it('refuses root', async () => {
      const recorded = recordedCommand('qsub-errors.txt', 'submitting as root');
      const result = await batch().asRoot('qsub', batch().userFile('work0.sh'));
      expect([result.code, result.stderr.trim()]).toEqual([recorded.code, recorded.stderr]);
    });

    it.runIf(!real).each([
      ['-W depend=', ['-W', 'umask=022,depend=afterok:1.vm', 'work0.sh'], 'dependencies (-W depend=)'],
      ['-a', ['-a', '2359', 'work0.sh'], 'jobs that wait for a time (-a)'],
      ['-I', ['-I'], 'interactive jobs'],
      ['such a directive in the script', ['depend.sh'], 'dependencies (-W depend=)'],
    ])('refuses what only TORQUE has: %s', async (_, argv, what) => {
      const result = await batch().asUser('qsub', ...argv);
      expect([result.code, result.stdout, result.stderr]).toEqual([
        1,
        '',
        `qsub: the stand-in has no ${what}\n`,
      ]);
    });

    it.runIf(!real)(
      "refuses a -W group_list= that the user is not in, and takes the user's own",
      async () => {
        const refused = await batch().asUser('qsub', '-W', 'group_list=daemon', 'work0.sh');
        expect([refused.code, refused.stdout]).toEqual([199, '']);
        expect(refused.stderr).toContain('Bad GID for job execution MSG=user');
        const group = (await batch().asUser('id', '-gn')).stdout.trim();
        const taken = await batch().asUser('qsub', '-h', '-W', `group_list=${group}`, 'work0.sh');
        expect(taken.code).toBe(0);
        expect((await batch().attributes(taken.stdout.trim())).get('egroup')).toBe(group);
        await batch().asUser('qdel', taken.stdout.trim());
      },
    );

    it.each([
      ["user not in the queue's acl_users", ['acl_users = somebody', 'acl_user_enable = True'], 'work0.sh'],
      ['max_user_queuable reached', ['max_user_queuable = 0'], 'work0.sh'],
      ['max_queuable reached', ['max_queuable = 0'], 'work0.sh'],
      ['queue disabled', ['enabled = False'], 'work0.sh'],
      ['resources_max.walltime exceeded', ['resources_max.walltime = 02:00:00'], '-lwalltime=03:00:00'],
    ])('refuses: %s', async (title, settings, word) => {
      const recorded = recordedCommand('qsub-errors.txt', title);
      for (const setting of settings) await batch().manage(`set queue ${batch().queue} ${setting}`);
      const result = await batch().asUser('qsub', word, 'work0.sh');
      for (const setting of settings) {
        const name = setting.split(' ')[0] ?? '';
        const undo =
          name === 'enabled'
            ? `set queue ${batch().queue} enabled = True`
            : `unset queue ${batch().queue} ${name}`;
        await batch().manage(undo);
      }
      expect(result.code).toBe(recorded.code);
      expect(asRecorded(batch(), result.stderr.trim())).toBe(
        recorded.stderr.replace('user bob@', 'user alice@'),
      );
    });

    it("refuses to delete another's job", async () => {
      // The stranger is the account nobody, which every Debian has.
      const id = await batch().submit('mine', 'true\n', '-h');
      const result = await batch().asRoot('setpriv', '--reuid=nobody', '--clear-groups', 'qdel', id);
      expect([result.code, result.stderr]).toEqual([
        159,
        `qdel: Unauthorized Request  MSG=operation not permitted ${id}\n`,
      ]);
      await batch().asUser('qdel', id);
    });

    it('takes directives from the script, with the command line above them', async () => {
      batch().writeScript(
        'directives.sh',
        '#!/bin/bash\n#PBS -N fromscript -l walltime=5:00\n#PBS -A prjB\n\ntrue\n#PBS -Z\n',
      );
      const result = await batch().asUser('qsub', '-h', '-N', 'fromline', 'directives.sh');
      const id = result.stdout.trim();
      const attributes = await batch().attributes(id);
      const named = ['Job_Name', 'Resource_List.walltime', 'Account_Name', 'submit_args'].map((name) =>
        attributes.get(name),
      );
      expect(named).toEqual(['fromline', '00:05:00', 'prjB', '-h -N fromline directives.sh']);
      await batch().asUser('qdel', id);
    });
  });
}
