// Stage 0 of runtime environments: shell text of the site's that runs on the CE and may change what is known of the job.
import { constants } from 'node:os';
import { VmbatchError } from '../util/errors.ts';
import { renderTemplate } from '../util/template.ts';
import { type Grami, parseGramiValues } from './grami.ts';
import { isRuntimeName, type RuntimeEnvironment, type RuntimeVariables } from './runtime-environments.ts';
import { PRINTED_MAX_BYTES, runStageZeroShell, type ShellEnd } from './stage-zero-shell.ts';
import { decodeBytes, encodeBytes, showBytes } from './text.ts';

/** What is needed for stage 0. */
export interface StageZero {
  grami: Grami;
  /** All assignments of the grami file. */
  values: ReadonlyMap<string, string>;
  /** As `resolveRuntimes` gives them. */
  runtimes: readonly RuntimeEnvironment[];
  /** What ARC's variables begin with. */
  variables: RuntimeVariables;
  /** A-REX's `--config` file. */
  configurationFile: string;
  /** Gets what the scripts printed, when they have ended. */
  log: (chunk: Uint8Array) => void;
  /** Milliseconds for all of them. Default: 5 min, well below what A-REX waits for a submission. */
  timeoutMs?: number;
  /** Default `/bin/sh`. */
  shell?: readonly string[];
}

const TIMEOUT_MS = 5 * 60_000;

/** Variables that come back. `joboption_jobid` is not for them to set. */
const RETURNED = /^(joboption_(?!jobid$)|RUNTIME_|ACCOUNTING_)[A-Za-z0-9_]+$|^(GNU_TIME|NODENAME)$/;

/** Sources `params` and script of each runtime environment with `0 OPTIONS...`, one after the other in one shell, as ARC
 * does: same working directory and environment as ours, `ARC_CONFIG` the preprocessed configuration, `joboption_*` and
 * `RUNTIME_*` set; what an earlier one changes, a later one sees. Nothing is started if none has a script.
 *
 * As in ARC `joboption_lrms` is `pbs`, which is what the batch system is. `joboption_args` is a line of shell; if it comes
 * back changed it is the grami's `commandLine`.
 * @returns the job and the variables as they are afterwards
 * @throws VmbatchError for a runtime environment that fails, ends the shell or takes too long: `job` if the job asked
 * for it, `site` if the site added it; as `parseGramiValues` for values that they leave behind */
export async function runStageZero(stage: StageZero): Promise<{ grami: Grami; variables: RuntimeVariables }> {
  if (stage.runtimes.every(({ script }) => script === undefined))
    return { grami: stage.grami, variables: stage.variables };
  const commandLine = stage.grami.args.map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
  const script = renderTemplate(
    'stage-zero.sh',
    {
      folder: `${stage.grami.controlDirectory}/rte`,
      variables: [
        ...Object.entries(arcVariables(stage, commandLine)),
        ...stage.variables,
        ...[...stage.values].filter(([name]) => name.startsWith('joboption_')),
        // The defaults come after those that the job asks for.
        ...stage.runtimes.map(({ name }, index) => [`joboption_runtime_${index}`, name]),
      ],
    },
    'sh',
  );
  const end = await runStageZeroShell({
    shell: stage.shell ?? ['/bin/sh'],
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
  return { grami: parseGramiValues(values, stage.grami.file), variables };
}

/** What ARC's scripts have set when they come to stage 0. */
function arcVariables({ grami, configurationFile, variables }: StageZero, commandLine: string) {
  const prefix = process.env['ARC_LOCATION'] ?? '/usr';
  return {
    ARC_CONFIG: encodeBytes(configurationFile),
    GRAMI_FILE: encodeBytes(grami.file),
    pkgdatadir: encodeBytes(`${prefix}/share/arc`),
    pkglibexecdir: encodeBytes(`${prefix}/lib/arc`),
    CONFIG_controldir: grami.controlDirectory,
    CONFIG_scratchdir: variables.get('RUNTIME_LOCAL_SCRATCH_DIR') ?? '',
    CONFIG_shared_filesystem: variables.get('RUNTIME_NODE_SEES_FRONTEND') === '' ? 'no' : 'yes',
    CONFIG_shared_scratch: variables.get('RUNTIME_FRONTEND_SEES_NODE') ?? '',
    joboption_lrms: 'pbs',
    joboption_args: commandLine,
  };
}

function failed(end: ShellEnd, { grami, timeoutMs = TIMEOUT_MS }: StageZero): VmbatchError {
  const name = end.running === undefined ? undefined : showBytes(end.running);
  const said = lastLine(end.stderr);
  const because = said === undefined ? '' : `: ${said}`;
  const requested = grami.runtimes.some((runtime) => runtime.name === end.running);
  const refuse = (code: string, message: string) =>
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
