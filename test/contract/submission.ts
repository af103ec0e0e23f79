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

    it('refuses two scripts', async () => {
      const result = await batch().asUser('qsub', 'work0.sh', 'bad.sh');
      expect([result.code, result.stdout]).toEqual([2, '']);
      expect(result.stderr).toMatch(/^\[index issues\]\n\nusage: qsub /);
    });

    it('refuses root', async () => {
      const recorded = recordedCommand('qsub-errors.txt', 'submitting as root');
      const result = await batch().asRoot('qsub', batch().userFile('work0.sh'));
      expect([result.code, result.stderr.trim()]).toEqual([recorded.code, recorded.stderr]);
    });

    it.runIf(!real).each([
      ['-W depend=', ['-W', 'umask=022,depend=afterok:1.vm', 'work0.sh'], 'dependencies (-W depend=)'],
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
      ["user not in the queue's acl_users", ['acl_users = somebody', 'acl_user_enable = True']],
      ['max_user_queuable reached', ['max_user_queuable = 0']],
      ['max_queuable reached', ['max_queuable = 0']],
      ['queue disabled', ['enabled = False']],
      ['resources_max.walltime exceeded', ['resources_max.walltime = 02:00:00'], '-lwalltime=03:00:00'],
    ])('refuses: %s', async (title, settings, option = undefined) => {
      const recorded = recordedCommand('qsub-errors.txt', title);
      for (const setting of settings) await batch().manage(`set queue ${batch().queue} ${setting}`);
      const result = await batch().asUser('qsub', ...(option === undefined ? [] : [option]), 'work0.sh');
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

    it('refuses a time that is none', async () => {
      const result = await batch().asUser('qsub', '-a', 'tomorrow', 'work0.sh');
      expect([result.code, result.stdout]).toEqual([2, '']);
      expect(result.stderr).toMatch(/^qsub: illegal -a value|^\[qsub: illegal -a value\]/);
    });

    it('takes a time to come: the job waits and is shown as W, and a time that has passed changes nothing', async () => {
      const later = await batch().asUser('qsub', '-a', '203712312359.30', 'work0.sh');
      const id = later.stdout.trim();
      const attributes = await batch().attributes(id);
      expect(attributes.get('job_state')).toBe('W');
      expect(attributes.get('Execution_Time')).toMatch(/^Thu Dec 31 23:59:30 2037$/);
      await batch().asUser('qdel', id);
      const before = await batch().asUser('qsub', '-a', '202001011000', 'work0.sh');
      expect((await batch().ended(before.stdout.trim())).get('exit_status')).toBe('0');
    });

    it('shows account, priority and the variables of -v, whose commas and quotes stay as they are', async () => {
      const options = ['-h', '-A', 'prjB', '-p', '-17', '-v', 'VMBATCH_SUBMISSION=abc.1,TWO=two words'];
      const id = await batch().submit('variables', 'true\n', ...options);
      const attributes = await batch().attributes(id);
      expect([attributes.get('Account_Name'), attributes.get('Priority')]).toEqual(['prjB', '-17']);
      expect(attributes.get('Variable_List')).toMatch(/,VMBATCH_SUBMISSION=abc\.1,TWO=two words(,|$)/);
      const xml = (await batch().asRoot('qstat', '-x', id)).stdout;
      expect(xml).toContain('VMBATCH_SUBMISSION=abc.1,TWO=two words');
      expect(xml).toMatch(/<Error_Path>[^<]+<\/Error_Path>/);
      await batch().asUser('qdel', id);
    });

    it('copies what is to be staged in before the prologue, and what is to be staged out after the epilogue', async () => {
      const { home } = batch().account;
      await batch().asUser('mkdir', '-p', 'input', 'scratch', 'back');
      batch().writeScript('input/data.txt', 'from the CE\n');
      const staged = [
        `-Wstagein=${home}/scratch@${batch().server}:${home}/input`,
        `-Wstageout=${home}/scratch/input@${batch().server}:${home}/back`,
      ];
      const text = `cat ${home}/scratch/input/data.txt >${home}/scratch/input/result.txt\n`;
      const id = await batch().submit('staging', text, ...staged);
      expect((await batch().attributes(id)).get('stagein')).toBe(
        `${home}/scratch@${batch().server}:${home}/input`,
      );
      expect((await batch().ended(id)).get('exit_status')).toBe('0');
      const result = await batch().asUser('cat', 'back/input/data.txt', 'back/input/result.txt');
      expect(result.stdout).toBe('from the CE\nfrom the CE\n');
      expect((await batch().asUser('ls', 'scratch')).stdout).toBe('');
      expect((await batch().asUser('ls', 'input')).stdout).toBe('data.txt\n');
    });

    it('does not run a job whose files cannot be staged in', async () => {
      const missing = `-Wstagein=${batch().account.home}/scratch@${batch().server}:/nonexistent`;
      const id = await batch().submit('nofiles', 'true\n', missing);
      const attributes = await batch().until(id, (found) => found.get('job_state') !== 'Q');
      expect(attributes.get('exit_status')).not.toBe('0');
      expect(batch().events(id)).not.toContain('prologue begin');
      await batch().asRoot('qdel', id);
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
