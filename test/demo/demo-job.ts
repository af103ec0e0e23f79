// The demo's grid job: what it runs, what is watched while it runs, and what can be said of it afterwards.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmbatchError } from '../../src/util/errors.ts';
import { audit, type Leftovers } from '../site/audit.ts';
import { createGridJob, type GridJob, jalienJob } from '../site/grid-job.ts';
import type { Site } from '../site/site.ts';

export const JOB_STAGES = {
  submit: 'submit-vmbatch-job: from the grami file to qsub',
  queue: 'the batch job waits in the queue',
  prologue: 'prologue: overlay, contextualisation ISO, domain',
  boot: 'the guest boots and writes its ready file',
  job: 'the job runs in the guest over SSH',
  epilogue: 'epilogue: guest destroyed, everything removed',
  scan: 'scan-vmbatch-job reports to A-REX',
} as const;

export interface DemoResult {
  /** What A-REX reads in `lrms_done`. */
  exitCode: number;
  lrmsText: string;
  ranInGuest: boolean;
  hypervisor: string;
  guest: { hostname: string; kernel: string; bootId: string };
  seconds: Record<'submit' | 'queueWait' | 'prologue' | 'guestBoot' | 'job' | 'epilogue' | 'scan', number>;
  left: Leftovers;
  /** For people. */
  output: { stdout: string; stderr: string; result: string; diag: string; errors: string };
  vcpus: number;
  memoryKiB: number;
  hostBootId: string;
}

/** One line of the node's history, as far as the demo reads it. */
interface HistoryLine {
  jobId: string;
  startedAt: number;
  hypervisor?: string;
  guest?: { hostname: string; kernel: string; bootId: string; vcpus: number; memoryKiB: number };
  seconds: Record<string, number>;
  outcome?: { seconds?: { connect: number; job: number } };
}

const script = (exitCode: number) => `#!/bin/bash
# Stands for the job agent's start-up script.
echo "the job agent would contact $ALIEN_CM_AS_LDAP_PROXY"
echo "hostname: $(hostname)"
echo "kernel: $(uname -r)"
echo "processors: $(grep -c ^processor /proc/cpuinfo)"
echo "memory: $(grep MemTotal /proc/meminfo | tr -s ' ')"
echo "boot id: $(cat /proc/sys/kernel/random/boot_id)"
echo "user: $(id -un), uid $(id -u), gid $(id -g)"
echo "directory: $PWD"
tr a-z A-Z <input.txt >result.txt
echo "this line goes to stderr" >&2
exit ${exitCode}
`;

/** Submits the job and follows it to its end; `begin` is told each stage.
 * @throws VmbatchError `site` if the job does not come to an end; the reason of `signal`. */
export async function runDemoJob(
  site: Site,
  exitCode: number,
  begin: (stage: string) => void,
  signal: AbortSignal,
): Promise<DemoResult> {
  const job = createGridJob(
    site,
    jalienJob(script(exitCode), { name: 'input.txt', text: 'an input file, turned into capitals\n' }),
    signal,
  );
  begin(JOB_STAGES.submit);
  const submitted = await job.submit();
  const submittedAt = Date.now();
  const { localId } = submitted;
  if (submitted.exitCode !== 0 || localId === undefined)
    throw failed(`submit-vmbatch-job failed: ${submitted.stderr.trim()}`);
  await watch(site, job, localId, begin, signal);
  const end = await job.waitForEnd(60_000);
  signal.throwIfAborted();
  const endedAt = statSync(job.file('lrms_done')).mtimeMs;

  const history = readHistory(site, localId);
  const stdout = readText(join(job.session, 'std.out'));
  const bootId = /^boot id: (.*)$/m.exec(stdout)?.[1] ?? '';
  const hostBootId = readText('/proc/sys/kernel/random/boot_id').trim();
  const guest = history.guest ?? { hostname: '', kernel: '', bootId: '', vcpus: 0, memoryKiB: 0 };
  return {
    exitCode: end.code,
    lrmsText: end.text,
    ranInGuest: bootId !== '' && bootId !== hostBootId && bootId === guest.bootId,
    hypervisor: history.hypervisor ?? 'none',
    guest: { hostname: guest.hostname, kernel: guest.kernel, bootId: guest.bootId },
    seconds: {
      submit: round(submitted.seconds),
      queueWait: round(Math.max(0, history.startedAt - submittedAt) / 1000),
      prologue: history.seconds['prologue'] ?? 0,
      guestBoot: history.seconds['boot'] ?? 0,
      job: round((history.outcome?.seconds?.connect ?? 0) + (history.outcome?.seconds?.job ?? 0)),
      epilogue: history.seconds['epilogue'] ?? 0,
      scan: round((endedAt - torqueEnd(site, localId)) / 1000),
    },
    left: await audit(site),
    output: {
      stdout,
      stderr: readText(join(job.session, 'std.err')),
      result: readText(join(job.session, 'result.txt')),
      diag: readText(`${job.session}.diag`),
      errors: readText(job.file('errors')),
    },
    vcpus: guest.vcpus,
    memoryKiB: guest.memoryKiB,
    hostBootId,
  };
}

/** Follows the job's way by what it leaves on the node; ends when the scan has reported it. */
async function watch(
  site: Site,
  job: GridJob,
  localId: string,
  begin: (stage: string) => void,
  signal: AbortSignal,
): Promise<void> {
  begin(JOB_STAGES.queue);
  const directory = join(site.state, 'jobs', localId);
  const has = (path: string) => existsSync(path);
  const reached: [string, () => boolean][] = [
    [JOB_STAGES.prologue, () => has(join(directory, 'record.json'))],
    [JOB_STAGES.boot, () => has(join(directory, 'console.log'))],
    [JOB_STAGES.job, () => has(join(site.state, 'sessions', localId, 'session.json'))],
    [JOB_STAGES.epilogue, () => has(join(directory, 'ended'))],
    [JOB_STAGES.scan, () => has(join(site.state, 'history.jsonl')) && !has(directory)],
  ];
  const deadline = Date.now() + 400_000;
  while (!has(job.file('lrms_done'))) {
    const at = reached.findLastIndex(([, is]) => is());
    const [stage] = reached[at] ?? [];
    if (stage !== undefined) {
      begin(stage);
      reached.splice(0, at + 1);
    }
    if (Date.now() > deadline) throw failed(`the job did not end${logEnd(site)}`);
    await sleep(25, undefined, { signal });
  }
}

function readHistory(site: Site, localId: string): HistoryLine {
  const line = readText(join(site.state, 'history.jsonl'))
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text) as HistoryLine)
    .findLast(({ jobId }) => jobId === localId);
  if (line === undefined) throw failed(`the node has no history of job ${localId}${logEnd(site)}`);
  return line;
}

/** When TORQUE says that the job ended; milliseconds since 1970, from its log's local time. */
function torqueEnd(site: Site, localId: string): number {
  for (const name of readdirSync(site.standin.serverLogDir).sort().reverse()) {
    const line = readText(join(site.standin.serverLogDir, name))
      .split('\n')
      .findLast((text) => text.includes(`;Job;${localId};Exit_status=`));
    const [, month, day, year, time] = /^(\d+)\/(\d+)\/(\d+) ([\d:.]+);/.exec(line ?? '') ?? [];
    if (time !== undefined) return new Date(`${year}-${month}-${day}T${time}`).getTime();
  }
  return Number.NaN;
}

function failed(message: string): VmbatchError {
  return new VmbatchError({ fault: 'site', code: 'site-demo', message });
}

/** The log goes with the site. */
function logEnd(site: Site): string {
  const lines = readText(join(site.log, 'vmbatch.log')).trimEnd().split('\n').slice(-5).join('\n');
  return `; the end of the node's log:\n${lines}`;
}

function readText(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
