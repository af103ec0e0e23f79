// Checks of the programs that hooks start: they are found with the mom's PATH, which is not that of who
// checks.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { torqueFolder, torqueFolders, USUAL_FOLDERS } from '../../batch/torque/node-commands.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import { type Check, type Finding, failed, ok, warning } from '../../util/check.ts';
import { folderOf, isProgram, NO_PATH } from '../../util/processes/find-program.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import { absent, PROGRAMS, type Program } from '../../util/programs.ts';

export interface ProgramSite {
  /** The mom's `mom_priv`. */
  momDirectory: string;
  run: Run;
  config: () => NodeConfig;
}

const PROGRAM_MS = 10_000;

export const PROGRAM_CHECKS: readonly Check<ProgramSite>[] = [
  {
    name: 'programs',
    about: 'Are the programs there that the hooks start, on the PATH that the mom gives them?',
    async check({ momDirectory, run }) {
      const { path, file } = pathOfHooks(momDirectory);
      const findings: Finding[] = [];
      const needed = PROGRAMS.filter(({ node }) => node !== undefined);
      for (const program of needed) {
        const problem = await programProblem(program, { path, file, run });
        if (problem !== undefined) findings.push(problem);
      }
      return findings.length > 0 ? findings : ok(`${needed.map(({ name }) => name).join(', ')} in ${path}`);
    },
  },
  {
    name: 'guard',
    about: 'Could the guard take this node offline?',
    needs: ['node-file'],
    async check({ config, momDirectory, run }) {
      const { faults, pbsBinPath, node } = config().guard;
      if (faults === 0) return ok('guard.faults is 0: this node is never taken offline');
      const folder = torqueFolder('pbsnodes', pbsBinPath, torqueFolders(pathOfHooks(momDirectory).path));
      const advice =
        "install TORQUE's client commands, or set guard.pbs_bin_path; without them let the mom ask: " +
        '$node_check_script, vmbatch node health';
      if (folder === undefined)
        return warning(
          `pbsnodes is not in the mom's PATH, nor in ${USUAL_FOLDERS.join(', ')}: a node that fails every job stays in service`,
          advice,
        );
      const program = join(folder, 'pbsnodes');
      if (!isProgram(program))
        return warning(`${program} is no program: a node that fails every job stays in service`, advice);
      // Of a name that only TORQUE's prologue tells nothing can be asked.
      const words = node === undefined ? [] : [node];
      const result = await run(program, words, { timeoutMs: PROGRAM_MS });
      if (result.exitCode === 0) return ok(`${program}, after ${faults} faults in a row`);
      return warning(
        `the guard could not take this node offline: ${describeRun(result)}`,
        node === undefined
          ? 'see whether the batch server can be reached from here: server_name, trqauthd'
          : `is ${node} what pbsnodes -a calls this node (guard.node)? can the batch server be reached from here?`,
      );
    },
  },
];

/** Those that say their version when asked for it, wherever they come from. */
const TELLS_VERSION = ['virsh', 'qemu-img'];

async function programProblem(
  program: Program,
  { path, file, run }: { path: string; file: string | undefined; run: Run },
): Promise<Finding | undefined> {
  const { name, debian, node } = program;
  const bad = node === 'always' ? failed : warning;
  const folder = folderOf(name, path);
  if (folder !== undefined) {
    if (!TELLS_VERSION.includes(name)) return undefined;
    const result = await run(join(folder, name), ['--version'], { timeoutMs: PROGRAM_MS });
    return result.exitCode === 0
      ? undefined
      : bad(
          describeRun(result),
          `${join(folder, name)} does not start: apt-get install --reinstall ${debian}`,
        );
  }
  const elsewhere = folderOf(name, [process.env['PATH'] ?? '', ...USUAL_FOLDERS].join(':'));
  if (elsewhere === undefined || file === undefined) return bad(...absent(program, path));
  return bad(
    `${name} is in ${elsewhere}, and the mom's hooks look in ${path} (${file})`,
    `add ${elsewhere} to PATH in ${file}, then restart pbs_mom with -p`,
  );
}

/** The PATH of hooks, and the file that it comes from; where there is none we look with our own. */
function pathOfHooks(momDirectory: string): { path: string; file: string | undefined } {
  const own = { path: process.env['PATH'] ?? NO_PATH, file: undefined };
  const file = join(dirname(momDirectory), 'pbs_environment');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return own;
  }
  // A name alone stands for what the mom itself was started with.
  if (/^PATH$/m.test(text)) return own;
  return { path: /^PATH=(.*)$/m.exec(text)?.[1] ?? NO_PATH, file };
}
