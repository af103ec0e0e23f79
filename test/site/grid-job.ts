// A grid job as A-REX hands it to a backend: the files of the control directory and the session directory,
// and the calls of submit, scan and cancel with what A-REX gives them.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunResult } from '../../src/util/processes/run.ts';
import { run } from '../../src/util/processes/run.ts';
import { shellQuote } from '../../src/util/quote.ts';
import { asAccount } from './account.ts';
import { QUEUE } from './configuration.ts';
import { signalGroup } from './sheltered.ts';
import type { Site } from './site.ts';

export interface GridJobDescription {
  name: string;
  /** argv of the job; the first is the executable as A-REX writes it. */
  arguments: string[];
  environment: Record<string, string>;
  /** Files that A-REX has put into the session directory. */
  inputs: Record<string, string>;
  outputs: string[];
}

export interface GridJob {
  id: string;
  session: string;
  file(kind: string): string;
  /** Runs submit-vmbatch-job as the mapped user; the job is INLRMS afterwards, as A-REX would have it. */
  submit(): Promise<RunResult & { localId: string | undefined }>;
  cancel(): Promise<RunResult>;
  /** Waits for `lrms_done` and returns what A-REX reads there. */
  waitForEnd(timeoutMs: number): Promise<{ code: number; text: string }>;
}

/** Writes the job's files.
 * @param signal ends calls that run and waiting. */
export function createGridJob(site: Site, description: GridJobDescription, signal?: AbortSignal): GridJob {
  const id = randomBytes(27).toString('hex').slice(0, 54);
  const session = join(site.sessions, id);
  const file = (kind: string) => join(site.control, `job.${id}.${kind}`);
  const owned = (path: string, text: string) => {
    writeFileSync(path, text, { mode: 0o600 });
    chownSync(path, site.account.uid, site.account.gid);
  };
  mkdirSync(session, { mode: 0o700 });
  chownSync(session, site.account.uid, site.account.gid);
  for (const [name, text] of Object.entries(description.inputs)) owned(join(session, name), text);
  for (const suffix of ['diag', 'comment']) owned(`${session}.${suffix}`, '');
  owned(file('grami'), grami(site, id, session, description));
  owned(file('local'), `globalid=${id}\nlrms=vmbatch\nqueue=${QUEUE}\nsessiondir=${session}\n`);
  owned(file('errors'), '');
  owned(file('output'), description.outputs.map((name) => `/${name}\n`).join(''));
  const status = join(site.control, 'processing', `job.${id}.status`);
  const setStatus = (text: string) => {
    writeFileSync(status, text, { mode: 0o600 });
    chownSync(status, site.account.uid, site.account.gid);
  };
  setStatus('SUBMIT');

  const call = async (script: string) => {
    const result = await run(
      'setpriv',
      [
        ...asAccount(site.account),
        ...['--', join(site.dist, 'arc-backend', script), '--config', site.arcConf, file('grami')],
      ],
      // As A-REX starts them under a service manager: no HOME, no USER.
      {
        env: { PATH: '/usr/local/bin:/usr/bin:/bin', ARC_CONFIG: site.arcConf },
        cwd: site.directory,
        ...(signal === undefined ? {} : { signal }),
      },
    );
    signal?.throwIfAborted();
    writeFileSync(file('errors'), result.stderr, { flag: 'a' });
    return result;
  };

  return {
    id,
    session,
    file,
    async submit() {
      const result = await call('submit-vmbatch-job');
      const localId = /^joboption_jobid='?([^'\n]*)'?$/m.exec(readFileSync(file('grami'), 'utf8'))?.[1];
      if (localId !== undefined) {
        writeFileSync(file('local'), `localid=${localId}\n`, { flag: 'a' });
        setStatus('INLRMS');
      }
      return { ...result, localId };
    },
    async cancel() {
      setStatus('CANCELING');
      return call('cancel-vmbatch-job');
    },
    async waitForEnd(timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      while (!existsSync(file('lrms_done'))) {
        if (performance.now() > deadline) throw new Error(`no lrms_done for ${id} in ${timeoutMs / 1000} s`);
        await sleep(50, undefined, { signal });
      }
      const [, code, text] = /^(-?\d+) ?(.*)/.exec(readFileSync(file('lrms_done'), 'utf8')) ?? [];
      return { code: Number(code), text: text ?? '' };
    },
  };
}

/** The job agent's start-up as JAliEn submits it: `/usr/bin/time bash NAME.sh`. */
export function jalienJob(script: string, input: { name: string; text: string }): GridJobDescription {
  const name = `JAliEn-${Date.now()}-0`;
  return {
    name,
    arguments: ['/usr/bin/time', 'bash', `${name}.sh`],
    environment: { ALIEN_CM_AS_LDAP_PROXY: 'localhost:10000' },
    inputs: { [`${name}.sh`]: script, [input.name]: input.text },
    outputs: ['std.err', 'std.out', 'gmlog', `${name}.sh`, 'result.txt'],
  };
}

/** Starts scan-vmbatch-job as A-REX does; it runs until it is told to stop. */
export function startScan(site: Site): ChildProcess {
  const log = openSync(join(site.directory, 'scan.log'), 'a');
  const script = join(site.dist, 'arc-backend/scan-vmbatch-job');
  return spawn(script, ['--config', site.arcConf, site.control], {
    cwd: site.directory,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', ARC_CONFIG: site.arcConf },
    stdio: ['ignore', 'ignore', log],
    // Ctrl-C is for us: we tell it when to end.
    detached: true,
  });
}

/** Ends it as A-REX does, and by force if it does not heed that for three seconds. */
export async function stopScan(scan: ChildProcess): Promise<void> {
  if (scan.exitCode !== null || scan.signalCode !== null) return;
  const gone = new Promise((resolve) => scan.once('exit', resolve));
  scan.kill('SIGTERM');
  const killer = setTimeout(() => signalGroup(scan.pid, 'SIGKILL'), 3_000);
  await gone;
  clearTimeout(killer);
}

/** The grami as A-REX 6.17 writes it for a job without limits. */
function grami(site: Site, id: string, session: string, job: GridJobDescription): string {
  const lines = [
    ['directory', session],
    ['controldir', site.control],
    ...job.arguments.map((argument, index) => [`arg_${index}`, argument]),
    ['stdin', '/dev/null'],
    ['stdout', join(session, 'std.out')],
    ['stderr', join(session, 'std.err')],
    ...Object.entries(job.environment).map(([name, value], index) => [`env_${index}`, `${name}=${value}`]),
  ].map(([key, value]) => `joboption_${key}=${shellQuote(value ?? '')}\n`);
  const next = Object.keys(job.environment).length;
  lines.push(`joboption_env_${next}=GRID_GLOBAL_JOBID=${shellQuote(id)}\n`);
  for (const key of ['cputime', 'walltime', 'memory', 'virtualmemory', 'disk'])
    lines.push(`joboption_${key}=\n`);
  lines.push('joboption_count=1\n');
  lines.push(`joboption_jobname=${shellQuote(job.name)}\njoboption_queue=${shellQuote(QUEUE)}\n`);
  lines.push(`joboption_starttime=\njoboption_gridid=${shellQuote(id)}\njoboption_priority=50\n`);
  for (const [index, name] of job.outputs.entries())
    lines.push(`joboption_outputfile_${index}=${shellQuote(`/${name}`)}\n`);
  return lines.join('');
}
