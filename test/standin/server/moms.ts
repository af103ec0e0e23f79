// The moms' side of the server: their connections, what they report, and what becomes of a job that ended.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { nowSeconds } from '../common/log.ts';
import { type MomToServer, onLines, send } from '../common/protocol.ts';
import type { BatchNode, BatchServer } from './batch.ts';
import { killStray } from './control.ts';
import { endRecord, type Job, usedForLog } from './job.ts';

/** Listens for moms; the socket lies in a directory that only root enters. */
export function listenForMoms(server: BatchServer): Server {
  rmSync(server.paths.momSocket, { force: true });
  const listener = createServer((socket) => {
    let node: BatchNode | undefined;
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (node?.socket !== socket) return;
      node.socket = undefined;
      server.log('04', 'node', node.name, `node ${node.name} state changed from free to down`);
    });
    onLines(socket, (line) => {
      const message = JSON.parse(line) as MomToServer;
      if (message.kind === 'hello') node = greet(server, socket, message);
      else if (node !== undefined) take(server, node, socket, message);
    });
  });
  listener.listen(server.paths.momSocket, () => chmodSync(server.paths.momSocket, 0o600));
  return listener;
}

function greet(
  server: BatchServer,
  socket: Socket,
  hello: Extract<MomToServer, { kind: 'hello' }>,
): BatchNode | undefined {
  const node = server.nodes.get(hello.node);
  if (node === undefined) {
    socket.destroy();
    return undefined;
  }
  node.socket = socket;
  node.momPid = hello.pid;
  node.status = hello.status;
  server.log('04', 'node', node.name, `node ${node.name} state changed from down to free`);
  const there = new Set(hello.jobs);
  for (const job of server.jobs.values()) {
    // Runs here in our books, but the mom knows nothing of it: it never got the start, or lost its files.
    if (job.state === 'R' && job.placement[0]?.node === node.name && !there.has(job.id)) requeue(server, job);
  }
  for (const id of hello.jobs) {
    if (server.jobs.get(id)?.state === 'R') continue;
    setTimeout(() => killStray(server, node.name, id), server.config.straySeconds * 1000).unref();
  }
  server.wake();
  return node;
}

function take(
  server: BatchServer,
  node: BatchNode,
  socket: Socket,
  message: Exclude<MomToServer, { kind: 'hello' }>,
): void {
  if (message.kind === 'status') {
    node.status = message.status;
    return;
  }
  const job = server.jobs.get(message.id);
  if (message.kind === 'obit') {
    obit(server, node, socket, message, job);
    return;
  }
  if (job?.state !== 'R') return;
  if (message.kind === 'used') server.change(job, { used: message.used });
  else if (message.attempt !== job.startCount) return;
  else if (message.kind === 'slow-start')
    server.change(job, { substate: 42, session: 0, started: nowSeconds() });
  else server.change(job, { substate: 42, session: message.session });
}

const PROLOGUE_FAILED = -14;
/** Start attempts that failed for a reason that may pass: mom lost its data, mom aborted the job, cgroups. */
const RETRIED = new Set([-3, -4, -13, PROLOGUE_FAILED]);
/** Aborted by a mom at its start: `setrerun` in TORQUE's req_jobobit.c ends a job that is not rerunnable. */
const ABORTED_AT_START = -4;

function obit(
  server: BatchServer,
  node: BatchNode,
  socket: Socket,
  message: Extract<MomToServer, { kind: 'obit' }>,
  job: Job | undefined,
): void {
  const { id, exitStatus } = message;
  if (job?.state !== 'R' || job.startCount !== message.attempt) {
    const text = `LOG_ERROR::Unknown Job Id Error (15001) in ${id}, Job Obit notice received from ${node.name} has error 15001`;
    server.log('01', 'Svr', 'PBS_Server', text);
    send(socket, { kind: 'obit-taken', id, keepOutput: false });
    return;
  }
  const final =
    job.deleted ||
    !RETRIED.has(exitStatus) ||
    (exitStatus === ABORTED_AT_START && !job.rerunnable) ||
    (exitStatus === PROLOGUE_FAILED && server.attributes.get('disable_automatic_requeue') === 'True');
  send(socket, {
    kind: 'obit-taken',
    id,
    keepOutput: final && (exitStatus === -2 || exitStatus === PROLOGUE_FAILED),
  });
  if (!final) {
    if (exitStatus === PROLOGUE_FAILED) {
      const why = `Job ${id} is being retried due to a failed prologue. See the syslog on the mother superior for more details`;
      server.log('01', 'Svr', 'PBS_Server', `LOG_ERROR::update_substate_from_exit_status, ${why}`);
      server.log('13', 'Job', id, 'DeleteJob issue_Drequest failure, rc = 15086');
    }
    requeue(server, job, exitStatus);
    return;
  }
  job.session = message.session;
  job.used = message.used;
  job.exitStatus = exitStatus;
  server.log('13', 'Job', id, 'Not sending email: User does not want mail of this type.');
  server.log('16', 'Job', id, `Exit_status=${exitStatus} ${usedForLog(job)}`);
  server.complete(job, {});
  server.account('E', id, endRecord(job));
}

/** Back to Q; the next start comes after a short while, so that a broken prologue does not eat the
 * machine. */
function requeue(server: BatchServer, job: Job, exitStatus?: number): void {
  // Substate 10 at once, but out of the scheduler's sight until the delay is over.
  server.change(job, {
    state: 'Q',
    substate: 10,
    placement: [],
    used: [],
    session: 0,
    ...(exitStatus === undefined ? {} : { exitStatus }),
  });
  job.notBefore = Date.now() + server.config.retryMilliseconds;
  setTimeout(() => server.wake(), server.config.retryMilliseconds + 1).unref();
}
