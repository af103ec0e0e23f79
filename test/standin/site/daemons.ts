// Starts and stops the daemons of a site directory, by the process ids that it notes there.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { momPaths, sitePaths } from '../common/site.ts';
import { readProcess, sessionProcesses, signalSession } from '../mom/processes.ts';
import type { StandinConfigInput } from '../server/config.ts';

export type MomMode = '-p' | '-q' | '-r';

const START_DEADLINE_MS = 15_000;

function readSiteConfig(home: string): StandinConfigInput {
  return JSON.parse(readFileSync(sitePaths(home).config, 'utf8')) as StandinConfigInput;
}

/** Spawns one daemon in a session of its own and notes its pid and start time. */
function spawnDaemon(home: string, name: string, words: readonly string[], namespace?: string): void {
  const { pids } = sitePaths(home);
  mkdirSync(pids, { recursive: true, mode: 0o700 });
  const output = openSync(join(home, 'run', `${name}.out`), 'a', 0o600);
  const environment: NodeJS.ProcessEnv = { ...process.env, TORQUE_STANDIN_HOME: home };
  delete environment['NODE_EXTRA_CA_CERTS'];
  // nsenter becomes the program: the process stays the same.
  const inside = namespace === undefined ? [] : ['nsenter', `--net=/run/netns/${namespace}`, '--'];
  const program = [...inside, process.execPath, join(home, 'lib', 'torque-standin.cjs'), ...words];
  const daemon: ChildProcess = spawn(program[0] ?? '', program.slice(1), {
    cwd: '/',
    detached: true,
    env: environment,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  daemon.unref();
  const pid = daemon.pid ?? 0;
  writeFileSync(join(pids, name), `${pid} ${readProcess(pid)?.startTime ?? ''}\n`);
}

/** The noted daemon, if it is that same process still. */
function daemonPid(home: string, name: string): number | undefined {
  const path = join(sitePaths(home).pids, name);
  if (!existsSync(path)) return undefined;
  const [pid = '', startTime = ''] = readFileSync(path, 'utf8').trim().split(' ');
  const found = readProcess(Number(pid));
  return found !== undefined && found.startTime === startTime && found.state !== 'Z'
    ? Number(pid)
    : undefined;
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline)
      throw new Error(`torque-standin: ${what} within ${START_DEADLINE_MS / 1000} s`);
    await sleep(20);
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export async function startServer(home: string): Promise<void> {
  spawnDaemon(home, 'server', ['server', home]);
  await until(
    () => answers(sitePaths(home).clientSocket),
    `the server did not answer (see ${home}/run/server.out)`,
  );
}

/** Resolves when the mom has reported to the server, which then shows its pid in its log. */
export async function startMom(home: string, node: string, mode: MomMode = '-p'): Promise<void> {
  const config = readSiteConfig(home);
  const first = config.nodes[0]?.name === node;
  const words = ['mom', '--node', node, mode];
  if (first) words.push('--first');
  if (config.blockStarts === true) words.push('--block-starts');
  const { logs } = momPaths(home, node, first);
  const before = countOpened(logs);
  spawnDaemon(home, `mom.${node}`, words, config.namespace);
  await until(
    () => countOpened(logs) > before,
    `mom ${node} did not start (see ${home}/run/mom.${node}.out)`,
  );
}

function countOpened(logs: string): number {
  if (!existsSync(logs)) return 0;
  return readdirSync(logs)
    .filter((name) => /^\d{8}$/.test(name))
    .reduce((sum, name) => sum + readFileSync(join(logs, name), 'utf8').split(';Log opened\n').length - 1, 0);
}

/** Server and all moms. */
export async function startDaemons(home: string): Promise<void> {
  await startServer(home);
  await Promise.all(readSiteConfig(home).nodes.map(({ name }) => startMom(home, name)));
}

/** Sends a signal to a daemon (`server`, `mom.NAME`) and waits for its end. */
export async function stopDaemon(home: string, name: string, signal: NodeJS.Signals): Promise<void> {
  const pid = daemonPid(home, name);
  if (pid === undefined) return;
  process.kill(pid, signal);
  await until(() => daemonPid(home, name) === undefined, `${name} did not end after ${signal}`);
  rmSync(join(sitePaths(home).pids, name), { force: true });
}

/** Stops the daemons, then whatever hooks and jobs still run. Returns a line for each session it had to
 * kill. */
export async function stopDaemons(home: string): Promise<string[]> {
  const { pids } = sitePaths(home);
  const names = existsSync(pids) ? readdirSync(pids) : [];
  // The server first: it would put back into the queue what loses its mom.
  for (const name of names.sort((one) => (one === 'server' ? -1 : 1)))
    await stopDaemon(home, name, 'SIGTERM');
  const killed: string[] = [];
  for (const [index, { name }] of readSiteConfig(home).nodes.entries()) {
    killed.push(...(await killSessions(momPaths(home, name, index === 0).sessions)));
  }
  return killed;
}

/** Ends all that still runs in sessions which launchers have noted (`session start kind job` a line). A
 * session may start another while it ends (the job after its prologue), so it looks until nothing is left. */
async function killSessions(path: string): Promise<string[]> {
  const killed = new Set<string>();
  for (let round = 0; round < 20; round++) {
    if (!existsSync(path)) break;
    let left = 0;
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      const [session = '', start = '', kind = '', id = ''] = line.split(' ');
      if (session === '' || sessionProcesses(Number(session), start).length === 0) continue;
      left += signalSession(Number(session), start, 'SIGKILL').length;
      killed.add(`session ${session} (${kind} of ${id})`);
    }
    if (left === 0 && round > 0) break;
    await sleep(30);
  }
  return [...killed];
}
