// Stage 0 of runtime environments: shell text of the site's that runs on the CE and may change what is known
// of the job.

import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import type { ErrorCode } from '../../util/error-codes.ts';
import { VmbatchError } from '../../util/errors.ts';
import { renderTemplate } from '../../util/templates/template.ts';
import type { RuntimeVariables } from '../arc-shell.ts';
import { arcVariables, isNested } from '../arc-shell.ts';
import { type Grami, parseGramiValues } from '../grami.ts';
import { decodeBytes, showBytes } from '../text.ts';
import { isRuntimeName, type RuntimeEnvironment } from './runtime-environments.ts';
import { PRINTED_MAX_BYTES, runStageZeroShell, type ShellEnd } from './stage-zero-shell.ts';

/** What is needed for stage 0. */
export interface StageZero {
  grami: Grami;
  /** All assignments of the grami file. */
  values: ReadonlyMap<string, string>;
  /** As `resolveRuntimes` gives them. */
  runtimes: readonly RuntimeEnvironment[];
  /** What ARC's variables begin with. */
  variables: RuntimeVariables;
  /** `CONFIG_*`, as ARC's scripts have them. */
  config?: RuntimeVariables;
  /** A-REX's `--config` file. */
  configurationFile: string;
  /** Gets what the scripts printed, when they have ended. */
  log: (chunk: Uint8Array) => void;
  /** Milliseconds for all of them. Default: 5 min, well below what A-REX waits for a submission. */
  timeoutMs?: number;
  /** Default: bash where there is one. ARC takes /bin/sh, which is bash where most of its runtime
   * environments were written: under another shell some of them do nothing, and the job runs without what it
   * asked for (`[ a == b ]` in ENV/SINGULARITY). */
  shell?: readonly string[];
}

const TIMEOUT_MS = 5 * 60_000;

const BASH = '/bin/bash';
const defaultShell = () => (existsSync(BASH) ? [BASH, '--posix'] : ['/bin/sh']);

/** Stage 0 of a job, run to its end. */
export interface StageZeroEnd {
  grami: Grami;
  variables: RuntimeVariables;
  /** What runtime environments said on stderr although they did not fail, one for each that said
   * something. */
  complaints: Complaint[];
}

export interface Complaint {
  /** Of the runtime environment. Byte string. */
  name: string;
  /** The last line that says something. Text. */
  said: string;
}

/** Variables that come back. `joboption_jobid` is not for them to set. */
const RETURNED = /^(joboption_(?!jobid$)|RUNTIME_|ACCOUNTING_)[A-Za-z0-9_]+$|^(GNU_TIME|NODENAME)$/;

/** Sources `params` and script of each runtime environment with `0 OPTIONS...`, one after the other in one
 * shell, as ARC does: same working directory and environment as ours, `ARC_CONFIG` the preprocessed
 * configuration, `joboption_*`, `RUNTIME_*` and the variables and functions of ARC's scripts there; what an
 * earlier one changes, a later one sees. Nothing is started if none has a script.
 *
 * `joboption_args` is a line of shell; if it comes back changed it is the grami's `commandLine`.
 * @returns the job and the variables as they are afterwards
 * @throws VmbatchError for a runtime environment that fails, ends the shell or takes too long: `job` if the
 * job asked for it, `site` if the site added it; as `parseGramiValues` for values that they leave behind */
export async function runStageZero(stage: StageZero): Promise<StageZeroEnd> {
  if (stage.runtimes.every(({ script }) => script === undefined))
    return { grami: stage.grami, variables: stage.variables, complaints: [] };
  const commandLine = stage.grami.args.map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  const script = renderTemplate(
    'stage-zero.sh',
    {
      folder: `${stage.grami.controlDirectory}/rte`,
      nested: isNested(stage.grami),
      variables: [
        ...arcVariables(stage.grami, stage.config ?? new Map(), stage.configurationFile),
        ['joboption_args', commandLine],
        ...stage.variables,
        ...[...stage.values].filter(([name]) => name.startsWith('joboption_')),
        // The defaults come after those that the job asks for.
        ...stage.runtimes.map(({ name }, index) => [`joboption_runtime_${index}`, name]),
      ],
    },
    'sh',
  );
  const end = await runStageZeroShell({
    shell: stage.shell ?? defaultShell(),
    script: Buffer.from(script, 'latin1'),
    environment: { ...process.env, ARC_CONFIG: stage.configurationFile },
    timeoutMs: stage.timeoutMs ?? TIMEOUT_MS,
    wanted: (name) => RETURNED.test(name),
    log: stage.log,
  });
  if (end.values === undefined) throw failed(end, stage);
  const values = new Map([...end.values].filter(([name]) => name.startsWith('joboption_')));
  if (values.get('joboption_args') === commandLine) values.delete('joboption_args');
  const variables = new Map([...end.values].filter(([name]) => !name.startsWith('joboption_')));
  const complaints = end.said.flatMap(({ name, stderr }) => {
    const said = lastLine(stderr);
    return said === undefined ? [] : [{ name, said }];
  });
  return { grami: parseGramiValues(values, stage.grami.file), variables, complaints };
}

function failed(end: ShellEnd, { grami, timeoutMs = TIMEOUT_MS }: StageZero): VmbatchError {
  const name = end.running === undefined ? undefined : showBytes(end.running);
  const said = lastLine(end.said.at(-1)?.stderr ?? '') ?? lastLine(end.said.at(-1)?.stdout ?? '');
  const because = said === undefined ? '' : `: ${said}`;
  const requested = grami.runtimes.some((runtime) => runtime.name === end.running);
  const refuse = (code: ErrorCode, message: string) =>
    new VmbatchError({
      fault: requested ? 'job' : 'site',
      code,
      message,
      hint: requested
        ? 'ask for it with other options, or without it; what it printed is in the job log (gmlog/errors)'
        : 'this site adds it to every job: its admins must look; what it printed is in the job log (gmlog/errors)',
    });
  if (end.problem !== undefined)
    return refuse(
      'stage-zero-impossible',
      `stage 0 of the runtime environments could not run: ${end.problem}`,
    );
  if (end.missing && end.running !== undefined)
    return refuse(
      'runtime-environment-missing',
      `the runtime environment ${name} is not available here: ${isRuntimeName(end.running) ? 'it is missing, its link leads nowhere, or it is not enabled' : 'its name is not one of a runtime environment'}`,
    );
  const what =
    name === undefined ? 'stage 0 of the runtime environments' : `the runtime environment ${name}, stage 0,`;
  if (end.printedTooMuch)
    return refuse('stage-zero-failed', `${what} printed more than ${PRINTED_MAX_BYTES / 1024 / 1024} MiB`);
  if (end.timedOut)
    return refuse('stage-zero-timeout', `${what} did not end within ${timeoutMs / 1000} s${because}`);
  if (end.code !== undefined)
    return refuse('stage-zero-failed', `${what} failed with code ${end.code}${because}`);
  return refuse(
    'stage-zero-failed',
    end.signal === undefined
      ? `${what} ended the shell with exit code ${end.exitCode}${because}`
      : `${what} died of ${end.signal} (${constants.signals[end.signal]})${because}`,
  );
}

/** The last line that says something, with nothing in it that could not stand in a message. */
function lastLine(stderr: string): string | undefined {
  return decodeBytes(stderr)
    .split('\n')
    .map((text) =>
      text
        .replaceAll(/\p{Cc}+/gu, ' ')
        .trim()
        .slice(0, 300),
    )
    .findLast((text) => text !== '');
}
