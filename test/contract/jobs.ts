// How the job itself is run, and where its output goes.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Batch, real, splitNul } from './batch.ts';
import { fixtureJson } from './recordings.ts';

/** Notes how the job itself was called, from the view of its script (whose parent reads the script's
 * name). */
const JOB_EVIDENCE = `cat /proc/$PPID/cmdline > "$HOME/$PBS_JOBID.cmdline"
cat /proc/$PPID/environ > "$HOME/$PBS_JOBID.environ"
{ id -u; id -G; pwd; umask; cut -d' ' -f6 /proc/$$/stat; echo $PPID; readlink /proc/$PPID/fd/1; } > "$HOME/$PBS_JOBID.context"
`;

export function jobsContract(batch: () => Batch): void {
  describe('the job', () => {
    it("is read by the user's login shell, in home, with the recorded environment", async () => {
      const id = await batch().submit('envjob', JOB_EVIDENCE, '-l', 'nodes=1:ppn=2,walltime=10:00');
      expect((await batch().ended(id)).get('exit_status')).toBe('0');
      const read = (name: string): string => readFileSync(batch().userFile(`${id}.${name}`), 'utf8');
      expect(splitNul(read('cmdline'))).toEqual(['-bash']);
      const [uid, groups, cwd, umask, session, leader, stdout] = read('context').split('\n');
      expect([uid, groups]).toEqual([String(batch().account.uid), String(batch().account.gid)]);
      expect([cwd, umask]).toEqual([batch().account.home, '0077']);
      expect(session?.trim()).toBe(leader);
      expect(stdout).toBe(join(batch().home, 'spool', `${id}.OU`));
      const names = splitNul(read('environ')).map((word) => word.replace(/=.*/s, ''));
      const recorded = fixtureJson<{ env: object }>('qsub-S-shell.json').env;
      expect(names).toEqual(Object.keys(recorded));
    });

    it('runs under -S with the path of the script on stdin and -F arguments behind it', async () => {
      const shell = join(batch().directory, 'vmshell');
      writeFileSync(
        shell,
        `#!/bin/bash\ncat > "$HOME/$PBS_JOBID.stdin"\ncat /proc/$$/cmdline > "$HOME/$PBS_JOBID.argv"\n`,
      );
      chmodSync(shell, 0o755);
      const id = await batch().submit('dashS', 'true\n', '-S', shell, '-F', 'one two');
      await batch().ended(id);
      expect(readFileSync(batch().userFile(`${id}.stdin`), 'utf8')).toBe(
        `${batch().momPriv(`jobs/${id}.SC`)} one two\n`,
      );
      // An interpreted program shows its interpreter first; TORQUE itself gave argv = [path].
      expect(splitNul(readFileSync(batch().userFile(`${id}.argv`), 'utf8')).at(-1)).toBe(shell);
    });

    it('ends with 254 when its shell cannot be executed', async () => {
      const id = await batch().submit('noshell', 'true\n', '-S', '/nonexistent');
      expect((await batch().ended(id)).get('exit_status')).toBe('254');
      const text = readFileSync(batch().userFile(`noshell.e${id.split('.')[0]}`), 'utf8');
      expect(text).toContain("PBS: exec of shell '/nonexistent' failed");
    });

    it.each([
      [false, (uid: number) => uid],
      [true, () => 0],
    ])('is wrapped by $job_starter (privileged: %s)', async (privileged, expectedUid) => {
      const starter = join(batch().directory, 'jobstarter');
      const note = `printf '%s\\0' "$0" "$@" > ${batch().directory}/starter.argv
cat /proc/$$/environ > ${batch().directory}/starter.environment
{ id -u; id -g; id -G; pwd; umask; } > ${batch().directory}/starter.context
read -r script; stat -c '%a %u' "$script" >> ${batch().directory}/starter.context
exec bash "$script"\n`;
      writeFileSync(starter, `#!/bin/bash\n${note}`);
      chmodSync(starter, 0o755);
      chmodSync(batch().directory, 0o1777);
      const options = [
        `$job_starter ${starter}`,
        ...(privileged ? ['$job_starter_run_privileged true'] : []),
      ];
      await batch().configureMom(options);
      const id = await batch().submit('js4', 'exit 8\n');
      expect((await batch().ended(id)).get('exit_status')).toBe('8');
      const read = (name: string): string => readFileSync(join(batch().directory, `starter.${name}`), 'utf8');
      expect(splitNul(read('argv'))).toEqual([starter, '/bin/bash']);
      const recorded = fixtureJson<{ env: object }>('job_starter.run_privileged.json').env;
      expect(splitNul(read('environment')).map((word) => word.replace(/=.*/s, ''))).toEqual(
        Object.keys(recorded),
      );
      const { uid, gid, home } = batch().account;
      const groups = privileged ? `0 ${gid}` : `${gid}`;
      const gids = privileged ? '0' : `${gid}`;
      expect(read('context').trim().split('\n')).toEqual([
        `${expectedUid(uid)}`,
        gids,
        groups,
        home,
        '0077',
        `700 ${uid}`,
      ]);
      for (const name of ['argv', 'environment', 'context'])
        rmSync(join(batch().directory, `starter.${name}`));
      await batch().configureMom([]);
    });

    it('gets variables of -v, and each element of an array its number', async () => {
      const text = 'echo "$COLOUR $PBS_ARRAYID" > "$HOME/$PBS_JOBID.v"\n';
      const id = await batch().submit('arr', text, '-v', 'COLOUR=red', '-t', '0-1');
      const sequence = id.split('[')[0] ?? '';
      expect(id).toBe(`${sequence}[].${batch().server}`);
      for (const index of [0, 1]) {
        const element = `${sequence}[${index}].${batch().server}`;
        expect((await batch().ended(element)).get('Job_Name')).toBe(`arr-${index}`);
        expect(readFileSync(batch().userFile(`${element}.v`), 'utf8')).toBe(`red ${index}\n`);
      }
      const collapsed = (await batch().asRoot('qstat')).stdout;
      expect(collapsed).toContain(`${sequence}[].vm`);
      expect(collapsed).not.toContain(`${sequence}[0].vm`);
      expect((await batch().asRoot('qstat', '-t')).stdout).toContain(`${sequence}[0].vm`);
    });
  });

  describe('output', () => {
    it('arrives with mode 0600, or as -W umask says, and joined by -j', async () => {
      const script = 'echo out; echo err >&2\n';
      const plain = await batch().submit('plain', script);
      const open = await batch().submit('open', script, '-W', 'umask=022', '-j', 'oe');
      await batch().ended(plain);
      await batch().ended(open);
      const file = (name: string, kind: string, id: string): string =>
        batch().userFile(`${name}.${kind}${id.split('.')[0]}`);
      expect(statSync(file('plain', 'o', plain)).mode & 0o777).toBe(0o600);
      expect(statSync(file('plain', 'o', plain)).uid).toBe(batch().account.uid);
      expect(readFileSync(file('plain', 'e', plain), 'utf8')).toBe('err\n');
      expect(statSync(file('open', 'o', open)).mode & 0o777).toBe(0o644);
      expect(readFileSync(file('open', 'o', open), 'utf8')).toContain('out\nerr\n');
      expect(existsSync(file('open', 'e', open))).toBe(false);
    });

    it('goes into a directory given by -o, and a missing one leaves it in undelivered', async () => {
      mkdirSync(batch().userFile('outputs'));
      await batch().asRoot('chown', batch().account.name, batch().userFile('outputs'));
      const there = await batch().submit('there', 'echo x\n', '-o', 'outputs', '-e', '/dev/null');
      const lost = await batch().submit('lost', 'echo x\n', '-o', 'missing/out', '-e', '/dev/null');
      await batch().ended(there);
      await batch().ended(lost);
      expect(existsSync(batch().userFile(`outputs/there.o${there.split('.')[0]}`))).toBe(true);
      expect(existsSync(join(batch().home, 'undelivered', `${lost}.OU`))).toBe(true);
    });

    it.runIf(!real)(
      'that cannot get into a FIFO is given up after some seconds, and the job ends',
      async () => {
        await batch().asUser('mkfifo', batch().userFile('fifo'));
        const id = await batch().submit('fifo', 'echo for nobody\n', '-o', 'fifo', '-e', '/dev/null');
        expect((await batch().ended(id)).get('exit_status')).toBe('0');
        const kept = join(batch().home, 'undelivered', `${id}.OU`);
        expect(readFileSync(kept, 'utf8')).toContain('for nobody\n');
      },
    );

    it('carries 10 MB with NUL bytes and UTF-8 unchanged', async () => {
      const id = await batch().submit('big', 'printf "ä\\0ö"; head -c 10000000 /dev/zero\n');
      await batch().ended(id);
      const data = readFileSync(batch().userFile(`big.o${id.split('.')[0]}`));
      const head = Buffer.from('prologue output\nä\0ö');
      expect(data.subarray(0, head.length).equals(head)).toBe(true);
      expect(data.length).toBe(head.length + 10_000_000 + 'epilogue output\n'.length);
    });
  });
}
