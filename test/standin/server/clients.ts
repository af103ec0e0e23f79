// The clients' side of the server: who is calling, and which function answers.
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, rmdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { BatchFault } from '../common/faults.ts';
import {
  type ClientRequest,
  onLines,
  type ServerReply,
  type StatusObject,
  send,
} from '../common/protocol.ts';
import { lookupUser, type UnixUser } from '../common/users.ts';
import type { BatchServer } from './batch.ts';
import { deleteJob, findJobs, holdJob, type Requestor, signalJob } from './control.ts';
import { jobAttributes } from './job.ts';
import { changeOffline, manage } from './manage.ts';
import { parseRequest } from './request.ts';
import { nodeStatus, queueStatus, serverStatus } from './status.ts';
import { submit } from './submit.ts';

const MAX_REQUEST_BYTES = 64 * 1024 * 1024;

/** Names of request types in TORQUE's log. */
const TYPES: Readonly<Record<ClientRequest['kind'], string>> = {
  submit: 'QueueJob2',
  jobs: 'StatusJob',
  queues: 'StatusQueue',
  server: 'StatusServer',
  nodes: 'StatusNode',
  delete: 'DeleteJob',
  signal: 'SignalJob',
  hold: 'HoldJob',
  node: 'Manager',
  manage: 'Manager',
};

export function listenForClients(server: BatchServer): Server {
  const path = server.paths.clientSocket;
  rmSync(path, { force: true });
  const listener = createServer((socket) => serve(server, socket));
  // Any user may connect; who it is, the proof tells.
  listener.listen(path, () => chmodSync(path, 0o666));
  return listener;
}

function serve(server: BatchServer, socket: Socket): void {
  const nonce = randomBytes(16).toString('hex');
  const proof = join(server.paths.proofs, nonce);
  let caller: UnixUser | undefined;
  socket.on('error', () => undefined);
  // The directory of a client that went away before its proof was looked at.
  socket.on('close', () => removeProof(proof));
  socket.write(`${nonce}\n`);
  onLines(
    socket,
    (line) => {
      if (caller === undefined) {
        caller = proofOwner(proof);
        if (caller === undefined) socket.destroy();
        return;
      }
      send(socket, answer(server, line, caller));
    },
    MAX_REQUEST_BYTES,
  );
}

/** The owner of the directory that the client has made: only its maker can own it, since nobody but root
 * gives directories away and directories cannot be linked. */
function proofOwner(proof: string): UnixUser | undefined {
  try {
    const found = lstatSync(proof);
    return found.isDirectory() ? lookupUser(found.uid) : undefined;
  } catch {
    return undefined;
  } finally {
    removeProof(proof);
  }
}

function removeProof(proof: string): void {
  try {
    rmdirSync(proof);
  } catch {
    // Removed already, or never made.
  }
}

function answer(server: BatchServer, line: string, user: UnixUser): ServerReply {
  const by: Requestor = { user: user.name, address: `${user.name}@${server.config.ownerHost}` };
  const request = parseRequest(line);
  try {
    if (request === undefined) throw new BatchFault('badRequest');
    return { code: 0, text: '', ...carryOut(server, request, user, by) };
  } catch (thrown) {
    if (!(thrown instanceof BatchFault)) throw thrown;
    // Lookups of unknown ids are not logged as rejections, as in TORQUE's recorded log.
    if (request !== undefined && !['jobs', 'queues', 'nodes'].includes(request.kind)) {
      const text = `Reject reply code=${thrown.code}(${thrown.message}), aux=0, type=${TYPES[request.kind]}, from ${by.address}`;
      server.log('128', 'Req', 'req_reject', text);
    }
    return { code: thrown.code, text: thrown.message };
  }
}

function carryOut(
  server: BatchServer,
  request: ClientRequest,
  user: UnixUser,
  by: Requestor,
): { text?: string; objects?: StatusObject[] } {
  switch (request.kind) {
    case 'submit':
      return { text: submit(server, request, user) };
    case 'jobs':
      return { objects: jobStatus(server, request.name) };
    case 'queues':
      return { objects: queues(server, request.name) };
    case 'server':
      return { objects: [serverStatus(server)] };
    case 'nodes':
      return { objects: nodes(server, request.name) };
    case 'delete':
      deleteJob(server, request.id, by, { delaySeconds: request.delay, purge: request.purge });
      return {};
    case 'signal':
      signalJob(server, request.id, by, request.signal);
      return {};
    case 'hold':
      holdJob(server, request.id, by, request.held);
      return {};
    case 'node':
      changeOffline(server, request.name, request, by.user, by.address);
      return {};
    case 'manage':
      return { text: manage(server, request.command, by.user, by.address) };
  }
}

/** All jobs, one by id, or those of a queue. */
function jobStatus(server: BatchServer, name: string | undefined): StatusObject[] {
  let jobs = [...server.jobs.values()];
  if (name !== undefined && /^\d/.test(name)) jobs = findJobs(server, name);
  else if (name !== undefined) {
    const queue = name.replace(/@.*$/, '');
    if (queue !== '' && !server.queues.has(queue)) throw new BatchFault('unknownQueue');
    jobs = jobs.filter((job) => queue === '' || job.queue === queue);
  }
  return jobs.map((job) => ({
    name: job.id,
    attributes: jobAttributes(job, server.name, server.config.cgroups),
  }));
}

function queues(server: BatchServer, name: string | undefined): StatusObject[] {
  const found = [...server.queues.values()].filter((queue) => name === undefined || queue.name === name);
  if (found.length === 0 && name !== undefined) throw new BatchFault('unknownQueue');
  return found.map((queue) => queueStatus(server, queue));
}

function nodes(server: BatchServer, name: string | undefined): StatusObject[] {
  const found = [...server.nodes.values()].filter((node) => name === undefined || node.name === name);
  if (found.length === 0 && name !== undefined)
    throw new BatchFault('unknownNode', 'MSG=cannot locate specified node');
  return found.map((node) => nodeStatus(server, node));
}
