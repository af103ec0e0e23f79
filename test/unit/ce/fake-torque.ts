// TORQUE's client commands for tests: programs on disk that give prepared answers and write down how they
// were called.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Answer {
  exitCode?: number;
  stdout?: string;
  stderr?: string;
}

/** `qstat-Q` is what `qstat -Q -f` answers, `qstat-B` what `qstat -B -f` does, `qstat-job` what `qstat -x ID`
 * does: by default that it is unknown. */
type Program = 'qsub' | 'qdel' | 'qstat' | 'qstat-Q' | 'qstat-B' | 'qstat-job' | 'pbsnodes' | 'gm-kick';

export interface FakeTorque {
  directory: string;
  binPath: string;
  answer: (program: Program, answer: Answer) => void;
  /** `PROGRAM|WORKING DIRECTORY|ARGUMENTS`, one a call. */
  calls: () => string[];
  /** What qsub was given on stdin. */
  script: () => Buffer;
  remove: () => void;
}

export function fakeTorque(): FakeTorque {
  const directory = mkdtempSync(join(tmpdir(), 'vmbatch-fake-'));
  chmodSync(directory, 0o755);
  const binPath = join(directory, 'bin');
  mkdirSync(binPath);
  const program = `#!/bin/sh
name=\${0##*/}
cd_at_start=$PWD
home=\${0%/bin/*}
printf '%s|%s|%s\\n' "$name" "$cd_at_start" "$*" >> "$home/calls"
[ "$name" = qsub ] && cat > "$home/stdin"
case "$name $1 \${2-}" in 'qstat -Q'*) name=qstat-Q ;; 'qstat -B'*) name=qstat-B ;; 'qstat -x '?*) name=qstat-job ;; esac
if [ "$name" = qstat-job ] && [ ! -e "$home/$name.code" ]; then
  shift
  for id; do echo "qstat: Unknown Job Id Error $id" >&2; done
  exit 153
fi
[ -e "$home/$name.out" ] && cat "$home/$name.out"
[ -e "$home/$name.err" ] && cat "$home/$name.err" >&2
[ -e "$home/$name.code" ] && exit "$(cat "$home/$name.code")"
exit 0
`;
  for (const name of ['qsub', 'qdel', 'qstat', 'pbsnodes', 'gm-kick'])
    writeFileSync(join(binPath, name), program, { mode: 0o755 });
  return {
    directory,
    binPath,
    answer: (name, { exitCode = 0, stdout = '', stderr = '' }) => {
      writeFileSync(join(directory, `${name}.out`), stdout);
      writeFileSync(join(directory, `${name}.err`), stderr);
      writeFileSync(join(directory, `${name}.code`), String(exitCode));
    },
    calls: () => {
      try {
        return readFileSync(join(directory, 'calls'), 'utf8').trimEnd().split('\n');
      } catch {
        return [];
      }
    },
    script: () => readFileSync(join(directory, 'stdin')),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** The calls of a recording such as `qsub-errors.txt`: what was asked, and what came back. */
export function recordedCalls(
  file: string,
): { title: string; exitCode: number; stdout: string; stderr: string }[] {
  const text = readFileSync(new URL(`../../fixtures/torque/${file}`, import.meta.url), 'utf8');
  const section = (block: string, name: string) =>
    new RegExp(`^${name}:\\n((?:(?!(?:stdout|stderr):\\n).*\\n?)*)`, 'm')
      .exec(block)?.[1]
      ?.replace(/\n*$/, '\n') ?? '';
  return text.split(/^(?=\$ )/m).flatMap((block) => {
    const exitCode = /^exit code: (\d+)/m.exec(block)?.[1];
    const title = /^\$ (.*)/.exec(block)?.[1];
    if (exitCode === undefined || title === undefined) return [];
    const clean = block.replaceAll(/^# .*\n/gm, '');
    return [
      {
        title,
        exitCode: Number(exitCode),
        stdout: section(clean, 'stdout'),
        stderr: section(clean, 'stderr'),
      },
    ];
  });
}
