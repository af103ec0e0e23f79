// The reaper: finds what has no living job, and removes it. What it removes it has claimed, so that a job
// which starts or ends meanwhile is not touched.
import { dropIdleCacheDisks } from '../../guest/disk/cache.ts';
import { eachProcess, type ProcessEntry } from '../../hypervisor/guest-process.ts';
import type { Hypervisor } from '../../hypervisor/port.ts';
import { removeUsersFile } from '../../util/accounts/as-user.ts';
import { toVmbatchError } from '../../util/errors.ts';
import { removeFile } from '../../util/files/files.ts';
import type { Log } from '../../util/log.ts';
import { claimJob, isClaimed } from '../claim.ts';
import { appendHistory } from '../history.ts';
import { undo } from '../life/undo.ts';
import { mustBeOwn } from '../owner/state-owner.ts';
import { findRecord, type JobRecord, jobIds, jobPaths, leaseDirectory } from '../record.ts';
import { ownDomains, type Remains, remainsByJob } from './by-name.ts';
import { type AskServer, type Life, lifeOf } from './liveness.ts';
import { deadTemporaries, oldReadyFiles } from './temporaries.ts';

export interface ReapOptions {
  state: string;
  leaseDirectories: readonly string[];
  /** For the connection that a record names; without a name, for the node file's. */
  openHypervisor: (uri?: string) => Hypervisor;
  askServer: AskServer;
  /** The directory of ready files, and a look at the share that cannot hang; undefined: there is none, or it
   * hangs. */
  share?: { directory: string; exists: (path: string) => Promise<boolean> } | undefined;
  /** Looks only. */
  dryRun: boolean;
  log: Log;
  /** For tests: milliseconds since 1970. */
  now?: () => number;
}

/** Longer than a pause between two campaigns of an account. */
const CACHE_IDLE_MS = 30 * 24 * 60 * 60_000;

/** What was found of one job, or of none. */
export interface ReapFinding {
  jobId: string | undefined;
  /** Why nobody needs it (any more), or why it is left alone. */
  why: string;
  things: string[];
  /** `would-remove`: in a dry run; `busy`: somebody else is at it; `unknown`: nobody could say whether its
   * job lives. */
  done: 'removed' | 'would-remove' | 'failed' | 'busy' | 'unknown';
  /** What could not be removed. */
  errors: string[];
}

export interface ReapReport {
  findings: ReapFinding[];
  /** Jobs that live here, and guests that are kept for somebody to look into. */
  alive: string[];
  kept: string[];
  /** What could not be looked at, such as a libvirt that is away. */
  problems: string[];
}

/** @throws VmbatchError `node` (`state-of-another-node`): the jobs in the state directory are not for us to
 * judge */
export async function reap(options: ReapOptions): Promise<ReapReport> {
  const { state } = options;
  mustBeOwn(state);
  const report: ReapReport = { findings: [], alive: [], kept: [], problems: [] };
  // The jobs first: one that begins after this look has a living prologue when its things are looked at.
  const works = [
    ...jobIds(state).map((jobId) => () => reapRecorded(options, jobId, report)),
    () => reapUnrecorded(options, report),
    async () => reapTemporaries(options, report),
    async () => reapCacheDisks(options, report),
    () => reapReadyFiles(options, report),
  ];
  for (const work of works) {
    try {
      await work();
    } catch (thrown) {
      // Such as a disk that is full: it must not keep the rest from being removed.
      report.problems.push(toVmbatchError(thrown, 'node').message);
    }
  }
  return report;
}

/** A job whose record says what there is. */
async function reapRecorded(options: ReapOptions, jobId: string, report: ReapReport): Promise<void> {
  const { state, log } = options;
  const paths = jobPaths(state, jobId);
  const look = async (): Promise<{ record: JobRecord; life: Life } | undefined> => {
    const record = findRecord(state, jobId);
    if (record === undefined) return undefined; // gone; or by its name, later
    const life =
      endOfKeeping(record) ?? (await lifeOf(state, jobId, record, [...eachProcess()], options.askServer));
    return { record, life };
  };
  const found = await look();
  if (found === undefined) return;
  if (found.life.is === 'alive') {
    const isKept = found.record.keptUntil !== undefined;
    (isKept ? report.kept : report.alive).push(jobId);
    return;
  }
  const things = Object.entries(found.record.steps)
    .filter(([, step]) => step !== 'released')
    .map(([name]) => name);
  const finding: ReapFinding = { jobId, why: found.life.why, things, done: 'unknown', errors: [] };
  report.findings.push(finding);
  if (found.life.is === 'unknown') return;
  if (options.dryRun) {
    finding.done = 'would-remove';
    return;
  }
  const release = await claimJob(state, jobId, 0);
  finding.done = 'busy';
  if (release === undefined) return;
  try {
    // Again: it may have been started anew before it was ours.
    const again = await look();
    if (again === undefined || again.life.is !== 'dead') return;
    const { record } = again;
    const failures = await undo({ state, paths, record, hypervisor: options.openHypervisor(record.uri) });
    appendHistory(state, record, { code: 'reaped', message: again.life.why });
    finding.done = failures.length === 0 ? 'removed' : 'failed';
    finding.errors = failures.map(({ step, error }) => `${step}: ${error.message}`);
    const level = failures.length === 0 ? 'warn' : 'error';
    log.write(level, `what was left of job ${jobId} is removed: ${again.life.why}`, {
      things: things.join(' '),
      left: finding.errors.join('; ') || undefined,
    });
  } finally {
    release();
  }
}

/** Of a guest that is kept for somebody to look into; undefined: it is not. */
function endOfKeeping({ keptUntil }: JobRecord): Life | undefined {
  if (keptUntil === undefined) return undefined;
  return keptUntil > Date.now()
    ? { is: 'alive', why: 'it is kept for somebody to look into' }
    : { is: 'dead', why: 'the time is over for which its guest was kept' };
}

async function reapUnrecorded(options: ReapOptions, report: ReapReport): Promise<void> {
  const { state } = options;
  const hypervisor = options.openHypervisor();
  const domains = await findDomains(options, hypervisor, report);
  for (const remains of remainsByJob(options, domains, hypervisor)) {
    const { jobId } = remains;
    // Whatever is of a job with a record is that record's.
    if (findRecord(state, jobId) !== undefined) continue;
    const life = await lifeOf(state, jobId, undefined, [...eachProcess()], options.askServer);
    if (life.is === 'alive') {
      report.alive.push(jobId);
      continue;
    }
    const things = remains.things.map(({ what }) => what);
    const finding: ReapFinding = {
      jobId,
      why: `it has no record, and ${life.why}`,
      things,
      done: 'unknown',
      errors: [],
    };
    report.findings.push(finding);
    if (life.is === 'unknown') continue;
    finding.done = 'would-remove';
    if (!options.dryRun) await removeUnrecorded(options, remains, finding);
  }
}

async function findDomains(
  { state }: ReapOptions,
  hypervisor: Hypervisor,
  report: ReapReport,
): Promise<Set<string>> {
  const processes: ProcessEntry[] = [...eachProcess()];
  try {
    return await ownDomains(state, processes, hypervisor);
  } catch (thrown) {
    report.problems.push(toVmbatchError(thrown, 'node').message);
    return ownDomains(state, processes, undefined);
  }
}

async function removeUnrecorded(
  { state, log, askServer }: ReapOptions,
  { jobId, things }: Remains,
  finding: ReapFinding,
): Promise<void> {
  const release = await claimJob(state, jobId, 0);
  finding.done = 'busy';
  if (release === undefined) return;
  try {
    const life = await lifeOf(state, jobId, undefined, [...eachProcess()], askServer);
    if (findRecord(state, jobId) !== undefined || life.is !== 'dead') return;
    finding.done = 'removed';
    for (const { what, remove } of things) {
      try {
        await remove();
      } catch (thrown) {
        finding.done = 'failed';
        finding.errors.push(`${what}: ${toVmbatchError(thrown, 'node').message}`);
        // The folder last, and only if nothing else is left: it is what leads here again.
        break;
      }
    }
    log.write(finding.done === 'removed' ? 'warn' : 'error', `what was left of job ${jobId} is removed`, {
      why: finding.why,
      things: finding.things.join(' '),
      left: finding.errors.join('; ') || undefined,
    });
  } finally {
    release();
  }
}

function reapTemporaries({ state, leaseDirectories, dryRun }: ReapOptions, report: ReapReport): void {
  const things = deadTemporaries(state, leaseDirectories);
  if (things.length === 0) return;
  if (!dryRun) for (const path of things) removeFile(path);
  report.findings.push({
    jobId: undefined,
    why: 'their processes have ended',
    things,
    done: dryRun ? 'would-remove' : 'removed',
    errors: [],
  });
}

/** Cache disks of accounts that have not come for a long time. */
function reapCacheDisks({ state, dryRun, now = Date.now }: ReapOptions, report: ReapReport): void {
  if (dryRun) return;
  const things = dropIdleCacheDisks(state, leaseDirectory(state), (usedAt) => now() - usedAt < CACHE_IDLE_MS);
  if (things.length === 0) return;
  const why = 'no guest has had these cache disks for 30 days';
  report.findings.push({ jobId: undefined, why, things, done: 'removed', errors: [] });
}

/** On the share: whoever may have forgotten them, they serve nobody. */
async function reapReadyFiles({ state, share, dryRun, now }: ReapOptions, report: ReapReport): Promise<void> {
  if (share === undefined || !(await share.exists(share.directory))) return;
  const things = oldReadyFiles(state, share.directory, now?.() ?? Date.now());
  if (things.length === 0) return;
  const errors: string[] = [];
  for (const { path, owner } of dryRun ? [] : things)
    await removeUsersFile(path, owner).catch((thrown: unknown) => {
      errors.push(`${path}: ${toVmbatchError(thrown, 'node').message}`);
    });
  report.findings.push({
    jobId: undefined,
    why: 'ready files are of use only while their guests start',
    things: things.map(({ path }) => path),
    done: dryRun ? 'would-remove' : errors.length > 0 ? 'failed' : 'removed',
    errors,
  });
}

/** Whether a reaper would find something, without asking anybody but this host: what an epilogue looks at. */
export async function somethingIsLeft(state: string): Promise<boolean> {
  const processes = [...eachProcess()];
  const nobody: AskServer = async () => undefined;
  for (const jobId of jobIds(state)) {
    const record = findRecord(state, jobId);
    if (isClaimed(state, jobId)) continue;
    const kept = record === undefined ? undefined : endOfKeeping(record);
    const life = kept ?? (await lifeOf(state, jobId, record, processes, nobody));
    if (life.is !== 'alive') return true;
  }
  const known = new Set(jobIds(state).map((jobId) => `vmbatch-${jobId}`));
  return [...(await ownDomains(state, processes, undefined))].some((name) => !known.has(name));
}
