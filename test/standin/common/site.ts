// The site directory of the stand-in: what /var/spool/torque is to TORQUE, and how a program finds it.
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Paths of one site directory. A mom on a further node has a directory of its own below `moms/`. */
export interface SitePaths {
  home: string;
  serverName: string;
  config: string;
  clientSocket: string;
  momSocket: string;
  proofs: string;
  serverLogs: string;
  accounting: string;
  serverJobs: string;
  database: string;
  pids: string;
}

export interface MomPaths {
  home: string;
  momPriv: string;
  config: string;
  jobs: string;
  sessions: string;
  spool: string;
  aux: string;
  undelivered: string;
  logs: string;
  environment: string;
}

export function sitePaths(home: string): SitePaths {
  return {
    home,
    serverName: join(home, 'server_name'),
    config: join(home, 'standin.json'),
    clientSocket: join(home, 'run', 'server.sock'),
    momSocket: join(home, 'run', 'moms', 'server.sock'),
    proofs: join(home, 'run', 'proofs'),
    serverLogs: join(home, 'server_logs'),
    accounting: join(home, 'server_priv', 'accounting'),
    serverJobs: join(home, 'server_priv', 'jobs'),
    database: join(home, 'server_priv', 'serverdb.json'),
    pids: join(home, 'run', 'pids'),
  };
}

/** `first`: whether this mom uses the site directory itself, as the only mom of a single-node site does. */
export function momPaths(home: string, node: string, first: boolean): MomPaths {
  const own = first ? home : join(home, 'moms', node);
  return {
    home: own,
    momPriv: join(own, 'mom_priv'),
    config: join(own, 'mom_priv', 'config'),
    jobs: join(own, 'mom_priv', 'jobs'),
    sessions: join(own, 'mom_priv', 'sessions'),
    spool: join(own, 'spool'),
    aux: join(own, 'aux'),
    undelivered: join(own, 'undelivered'),
    logs: join(own, 'mom_logs'),
    environment: join(own, 'pbs_environment'),
  };
}

function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

/** Directories of the server, with the modes that TORQUE gives them. */
export function makeSite(paths: SitePaths): void {
  makeDirectory(paths.home, 0o755);
  makeDirectory(join(paths.home, 'run'), 0o755);
  makeDirectory(dirname(paths.momSocket), 0o700);
  makeDirectory(paths.pids, 0o700);
  // Anybody may create a proof of identity, nobody may list or remove those of others.
  makeDirectory(paths.proofs, 0o1733);
  makeDirectory(paths.serverLogs, 0o755);
  makeDirectory(dirname(paths.accounting), 0o750);
  makeDirectory(paths.accounting, 0o755);
  makeDirectory(paths.serverJobs, 0o750);
}

/** Directories of one mom. */
export function makeMom(paths: MomPaths): void {
  if (!existsSync(paths.home)) makeDirectory(paths.home, 0o755);
  makeDirectory(paths.momPriv, 0o751);
  makeDirectory(paths.jobs, 0o751);
  makeDirectory(paths.spool, 0o1777);
  makeDirectory(paths.aux, 0o755);
  makeDirectory(paths.undelivered, 0o1777);
  makeDirectory(paths.logs, 0o755);
}

/** The site directory: of the environment, or the one this program was installed into
 * (`<home>/lib/x.cjs`). */
export function findHome(): string | undefined {
  const named = process.env['TORQUE_STANDIN_HOME'];
  if (named !== undefined && named !== '') return named;
  const beside = dirname(dirname(process.argv[1] ?? ''));
  return existsSync(join(beside, 'server_name')) ? beside : undefined;
}

export function readServerName(paths: SitePaths): string {
  return readFileSync(paths.serverName, 'utf8').trim();
}
