// qdel, qsig, qhold and qrls as the server carries them out.
import { BatchFault } from '../common/faults.ts';
import { type ServerToMom, send } from '../common/protocol.ts';
import type { BatchServer } from './batch.ts';
import type { Job } from './job.ts';

/** Who asks: `alice` and `alice@localhost`. */
export interface Requestor {
  user: string;
  address: string;
}

/** Elements of an array for `113[].vm`, else the one job; throws `Unknown Job Id`. */
export function findJobs(server: BatchServer, id: string): Job[] {
  const array = /^(\d+)\[\]\.(.*)$/.exec(id);
  const found =
    array === null
      ? [server.jobs.get(id)]
      : [...server.jobs.values()].filter((job) => job.id.startsWith(`${array[1]}[`));
  const jobs = found.filter((job) => job !== undefined);
  if (jobs.length === 0) throw new BatchFault('unknownJob');
  return jobs;
}

function checkOwner(server: BatchServer, job: Job, by: Requestor, type: number): void {
  if (by.user === job.user || server.isManager(by.user)) return;
  const what = `Unauthorized Request, request type: ${type}, Object: Job, Name: ${job.id}, request from: ${by.address}`;
  server.log('32', 'Job', job.id, what);
  throw new BatchFault('unauthorized', 'MSG=operation not permitted');
}

function checkNotComplete(job: Job): void {
  if (job.state === 'C') throw new BatchFault('badState', 'MSG=invalid state for job - COMPLETE');
}

/** Sends to the job's mom; throws 15072 while it is down. */
function sendToMom(server: BatchServer, job: Job, message: ServerToMom): void {
  const socket = server.nodes.get(job.placement[0]?.node ?? '')?.socket;
  if (socket === undefined) throw new BatchFault('noMom');
  send(socket, message);
}

export function deleteJob(
  server: BatchServer,
  id: string,
  by: Requestor,
  how: { delaySeconds?: number | undefined; purge?: boolean | undefined },
): void {
  const jobs = findJobs(server, id);
  const whole = jobs.length > 1;
  for (const job of jobs) {
    if (whole && job.state === 'C') continue;
    checkOwner(server, job, by, 6);
    if (how.purge === true) purge(server, job);
    else deleteOne(server, job, by, how.delaySeconds ?? server.config.killDelaySeconds);
  }
}

/** `qdel -p`: forgotten at once, without records. The mom keeps the job until the server finds it as a
 * stray. */
function purge(server: BatchServer, job: Job): void {
  server.log('08', 'Job', job.id, `purging job ${job.id} without checking MOM`);
  const node = job.state === 'R' ? server.nodes.get(job.placement[0]?.node ?? '') : undefined;
  server.forget(job);
  server.wake();
  if (node === undefined) return;
  setTimeout(() => killStray(server, node.name, job.id), server.config.straySeconds * 1000).unref();
}

export function killStray(server: BatchServer, node: string, id: string): void {
  const socket = server.nodes.get(node)?.socket;
  if (socket === undefined || server.jobs.has(id)) return;
  server.log('01', 'Svr', 'PBS_Server', `LOG_ERROR::kill_job_on_mom, stray job ${id} found on ${node}`);
  send(socket, { kind: 'stray', id });
}

function deleteOne(server: BatchServer, job: Job, by: Requestor, delaySeconds: number): void {
  checkNotComplete(job);
  server.log('08', 'Job', job.id, `Job deleted at request of ${by.address}`);
  server.account('D', job.id, `requestor=${by.address}`);
  if (job.state !== 'R') {
    server.complete(job, { deleted: true });
    return;
  }
  server.change(job, { deleted: true });
  const attempt = job.startCount;
  sendToMom(server, job, { kind: 'signal', id: job.id, signal: 'SIGTERM' });
  server.log('08', 'Job', job.id, 'Job sent signal SIGTERM on delete');
  setTimeout(() => {
    if (server.jobs.get(job.id) !== job || job.state !== 'R' || job.startCount !== attempt) return;
    try {
      sendToMom(server, job, { kind: 'signal', id: job.id, signal: 'SIGKILL' });
      server.log('08', 'Job', job.id, 'Job sent signal SIGKILL on delete');
    } catch {
      // The mom has gone in between; the job stays R until it comes back.
    }
  }, delaySeconds * 1000).unref();
}

export function signalJob(server: BatchServer, id: string, by: Requestor, signal: string): void {
  for (const job of findJobs(server, id)) {
    checkOwner(server, job, by, 18);
    checkNotComplete(job);
    if (job.state !== 'R') throw new BatchFault('badState', 'MSG=invalid state for job - QUEUED');
    const name = /^(SIG|\d)/i.test(signal) ? signal.toUpperCase() : `SIG${signal.toUpperCase()}`;
    sendToMom(server, job, { kind: 'signal', id: job.id, signal: name });
    server.log('08', 'Job', job.id, `sig ${signal} at request of ${by.address}`);
  }
}

export function holdJob(server: BatchServer, id: string, by: Requestor, held: boolean): void {
  for (const job of findJobs(server, id)) {
    checkOwner(server, job, by, 7);
    checkNotComplete(job);
    if (job.state === 'R') throw new BatchFault('badState', 'MSG=invalid state for job - RUNNING');
    server.log('08', 'Job', job.id, `Holds u ${held ? 'set' : 'released'} at request of ${by.address}`);
    const eligible = job.eligible ?? Math.floor(Date.now() / 1000);
    server.change(
      job,
      held ? { state: 'H', substate: 20, held } : { state: 'Q', substate: 10, held, eligible },
    );
  }
  server.wake();
}
