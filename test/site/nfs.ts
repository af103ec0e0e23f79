// An NFS server of our own for demo and tests: nfs-ganesha, NFSv4 over TCP, on the loopback only.
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { VmbatchError } from '../../src/util/errors.ts';
import { insideNamespace, startDaemon, waitForDaemon } from './daemon.ts';
import { runSheltered } from './sheltered.ts';

export interface NfsServerRequest {
  /** For configuration, log and recovery data; made if absent. */
  dir: string;
  /** The directory to share. */
  exportPath: string;
  /** Under which name a client mounts it: `/share`. */
  pseudo: string;
  /** TCP port on 127.0.0.1; a free one if absent. */
  port?: number;
  /** Network namespace, in which it listens on all addresses. Only with `port`. */
  namespace?: string | undefined;
  /** Stops it again as long as it does not answer. */
  signal?: AbortSignal | undefined;
}

export interface NfsServer {
  port: number;
  pid: number;
  stop(): Promise<void>;
}

/** Starts the server and returns when it accepts connections. A guest on QEMU's user network reaches it as
 * 10.0.2.2. Root in a guest is root on the share; there is no grace period after the start.
 * @throws VmbatchError `node` if it is not installed or does not start. */
export async function startNfsServer(request: NfsServerRequest): Promise<NfsServer> {
  const { dir } = request;
  mkdirSync(join(dir, 'recovery'), { recursive: true });
  const port = request.port ?? (await findFreePort());
  const configuration = join(dir, 'ganesha.conf');
  const log = join(dir, 'ganesha.log');
  writeFileSync(configuration, formatGaneshaConfig({ ...request, port }));
  const daemon = await startDaemon(
    'the NFS server',
    'ganesha.nfsd',
    ['-F', '-f', configuration, '-L', log, '-p', join(dir, 'ganesha.pid'), '-N', 'NIV_EVENT'],
    {
      log: join(dir, 'ganesha.out'),
      debianPackage: 'nfs-ganesha nfs-ganesha-vfs',
      namespace: request.namespace,
    },
  );
  await waitForDaemon(
    'the NFS server',
    daemon,
    () => (request.namespace === undefined ? accepts(port) : acceptsIn(request.namespace, port)),
    20_000,
    log,
    request.signal,
  );
  // Its own way of ending takes its time; there is nothing that it would have to save.
  return { port, pid: daemon.pid, stop: () => daemon.stop(2_000) };
}

/** The configuration of nfs-ganesha 4.
 * @throws VmbatchError `bug` for paths that its syntax cannot hold. */
export function formatGaneshaConfig(request: NfsServerRequest & { port: number }): string {
  return `NFS_CORE_PARAM {
  Protocols = 4; NFS_Port = ${request.port}; Bind_addr = ${request.namespace === undefined ? '127.0.0.1' : '0.0.0.0'};
  Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; fsid_device = true;
}
NFSv4 {
  Minor_Versions = 1, 2; Graceless = true; Grace_Period = 1; Lease_Lifetime = 10;
  Only_Numeric_Owners = true; Allow_Numeric_Owners = true; Delegations = false;
  RecoveryBackend = fs; RecoveryRoot = ${quoted(join(request.dir, 'recovery'))};
}
EXPORT {
  Export_Id = 1; Path = ${quoted(request.exportPath)}; Pseudo = ${quoted(request.pseudo)};
  Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Transports = TCP; Protocols = 4;
  FSAL { Name = VFS; }
}
`;
}

function quoted(path: string): string {
  if (/^\/[^"\\\p{Cc}]*$/u.test(path)) return `"${path}"`;
  throw new VmbatchError({
    fault: 'bug',
    code: 'site-path',
    message: `the NFS server cannot be given the path ${JSON.stringify(path)}: it must be absolute, without quotes`,
  });
}

function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    });
  });
}

async function acceptsIn(namespace: string, port: number): Promise<boolean> {
  const [file = '', ...args] = insideNamespace(namespace, ['bash', '-c', `</dev/tcp/127.0.0.1/${port}`]);
  return (await runSheltered(file, args, { timeoutMs: 5_000 })).exitCode === 0;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (result: boolean) => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}
