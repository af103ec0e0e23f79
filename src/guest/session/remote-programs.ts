// The few lines of shell that run a job in a guest. They are sent over SSH, so a guest needs nothing of ours:
// a POSIX shell, base64, env, mkfifo, setsid, tail and wc are in every image.
//
// Everything of a job is in one folder in the guest: `out` and `err` (its output), `alive` (a FIFO that stays
// open for writing as long as the job is watched over), `pid` and, at the end, `exit`: code and both sizes.
// The batch script of a grid job knows by `alive` beside it that it is in a guest.
// The job does not hang on the connection: who has lost it reads on from where it was.
import { shellQuote } from '../../util/quote.ts';
import { renderTemplate } from '../../util/templates/template.ts';
import type { Limit } from './limits.ts';

/** The signals that are handed on from the job starter to the job. */
export const JOB_SIGNALS = ['TERM', 'INT', 'HUP', 'USR1', 'USR2'] as const;
export type JobSignal = (typeof JOB_SIGNALS)[number];

export interface LaunchOptions {
  /** The folder of the job in the guest. */
  directory: string;
  /** File name and content of the job script; the name keeps what `$0` shows. */
  scriptName: string;
  script: Uint8Array;
  /** What the mom would have written on the shell's stdin behind the script's path: `-F` arguments. This, and
   * all text of the environment, is a byte string: a character a byte. */
  scriptArguments: string;
  environment: Readonly<Record<string, string>>;
  /** Content of the mom's node file, if there is one. */
  nodeFile: Uint8Array | undefined;
  umask: number;
  /** The node's, which the guest's may not stay below. */
  limits: readonly Limit[];
  /** Instead of one that runs no commands (`nologin`, `false`), the guest's bash or sh is taken. */
  shell: string;
  /** As a login shell, which is how the mom starts the user's own. */
  login: boolean;
}

/** Starts the job unless it is started already: a connection may break after the start was sent. Prints
 * `started` as soon as the job is out of reach of a broken connection. */
export function launchProgram(options: LaunchOptions): string {
  const base64 = (data: Uint8Array) =>
    Buffer.from(data)
      .toString('base64')
      .replace(/(.{76})/g, '$1\n');
  const environment = {
    // What sh has without being told.
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...options.environment,
    ...(options.nodeFile === undefined ? {} : { PBS_NODEFILE: `${options.directory}/nodes` }),
  };
  return renderTemplate(
    'job-launch.sh',
    {
      ...options,
      umask: options.umask.toString(8).padStart(4, '0'),
      scriptBase64: base64(options.script),
      nodeFileBase64: options.nodeFile === undefined ? undefined : base64(options.nodeFile),
      environmentBase64: base64(Buffer.from(environmentScript(environment), 'latin1')),
      home: options.environment['HOME'] ?? '/',
      inputBase64: base64(
        Buffer.from(`${options.directory}/${options.scriptName}${options.scriptArguments}\n`, 'latin1'),
      ),
    },
    'sh',
  );
}

/** A line of shell that becomes `"$@"` with these variables and no others. It goes through `env`, since a
 * shell keeps no variable that it could not hold itself, such as an exported function of bash. */
function environmentScript(environment: Readonly<Record<string, string>>): string {
  const words = Object.entries(environment)
    // It would be an option.
    .filter(([name]) => name !== '' && !name.startsWith('-'))
    .map(([name, value]) => shellQuote(`${name}=${value}`));
  return `exec env -i ${words.join(' ')} \${shell:+"SHELL=$shell"} "$@"\n`;
}

/** Ends when the job has: then prints `CODE OUT ERR`, the exit code and the sizes of both outputs; prints
 * nothing if what watched over the job was killed. Never polls: it waits for the FIFO's last writer. */
export function watchCommand(directory: string): string {
  const program =
    'cd "$1" && { exec 8<>alive 7<alive 8>&-; read -r nothing <&7; cat exit 2>/dev/null; true; }';
  return shell(program, directory);
}

/** Prints the job's output from `offset` on, and what is still to come. */
export function followCommand(directory: string, stream: 'out' | 'err', offset: number): string {
  return shell(`exec tail -c +${offset + 1} -f "$1/${stream}"`, directory);
}

/** Prints what there is of the job's output from `offset` on, and ends. */
export function restCommand(directory: string, stream: 'out' | 'err', offset: number): string {
  return shell(`exec tail -c +${offset + 1} "$1/${stream}"`, directory);
}

/** Prints the id of this boot of the guest. */
export const BOOT_ID_COMMAND = 'cat /proc/sys/kernel/random/boot_id';

/** Has the guest service run the site's hook after the job, as root, and waits for its end. Prints the hook's
 * exit code, or nothing if it takes longer than `seconds`. */
export function afterJobCommand(seconds: number): string {
  const program = `[ -p /run/vmbatch/after ] || { echo absent; exit; }
[ -s /run/vmbatch/after.done ] || { echo run >/run/vmbatch/after & }
looks=0
while [ ! -s /run/vmbatch/after.done ] && [ "$looks" -lt "$1" ]; do
  sleep 0.2
  looks=$((looks + 1))
done
cat /run/vmbatch/after.done 2>/dev/null
true`;
  return shell(program, String(seconds * 5));
}

/** Sends a signal to the job's process group. */
export function signalCommand(directory: string, signal: JobSignal): string {
  // Only what is to end the job gives it time to end; the mark tells the one that watches over it.
  const mark = signal === 'TERM' || signal === 'INT' ? ': >"$1/signalled" && ' : '';
  // The one form of kill that dash, bash and busybox all take for a process group.
  return shell(`read -r pid <"$1/pid" && ${mark}kill -${signal} "-$pid"`, directory);
}

function shell(program: string, argument: string): string {
  return `exec /bin/sh -c ${shellQuote(program)} vmbatch ${shellQuote(argument)}`;
}
