// A control directory with jobs, their sessions and a batch server, for tests of scan: all of it generated.
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { parseDiag } from '../../../../src/arc/diag.ts';
import { torqueAt } from '../../../../src/batch/torque/commands.ts';
import { type ScanOptions, scanOnce } from '../../../../src/ce/scan/scan.ts';
import { type FakeTorque, fakeTorque } from '../fake-torque.ts';

export const ROOT = process.getuid?.() === 0;
/** Jobs belong to nobody if we are root, else to us. */
export const USER = ROOT
  ? { uid: 65534, gid: 65534 }
  : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

/** The name of that account. */
const USER_NAME = execFileSync('id', ['-nu', String(USER.uid)], { encoding: 'utf8' }).trim();

export let torque: FakeTorque;
export let control: string;
export let sessions: string;
/** What scan told the admin. */
export let log: string[];
export let stop: AbortController;

/** To be called once by a test file: every test then has a site of its own. */
export function useScanSite(): void {
  beforeEach(makeSite);
  afterEach(() => {
    stop.abort();
    torque.remove();
  });
}

function makeSite(): void {
  torque = fakeTorque();
  control = join(torque.directory, 'control');
  sessions = join(torque.directory, 'session');
  mkdirSync(join(control, 'processing'), { recursive: true });
  mkdirSync(sessions);
  // As A-REX makes it: nobody but root creates anything beside the session directories.
  chmodSync(sessions, 0o755);
  log = [];
  stop = new AbortController();
}

export const options = (): ScanOptions => ({
  controlDirectories: [control],
  torque: torqueAt(torque.binPath),
  log: (line) => log.push(line),
  signal: stop.signal,
  intervalMs: 1,
  gmKick: join(torque.binPath, 'gm-kick'),
});

function own(path: string): string {
  if (ROOT) chownSync(path, USER.uid, USER.gid);
  return path;
}

export function put(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 });
  own(path);
}

export const session = (id: string) => join(sessions, id);
export const controlFile = (id: string, name: string) => join(control, `job.${id}.${name}`);
export const status = (id: string) => join(control, 'processing', `job.${id}.status`);
export const done = (id: string) =>
  existsSync(controlFile(id, 'lrms_done')) ? readFileSync(controlFile(id, 'lrms_done'), 'utf8') : undefined;
export const diag = (id: string) => parseDiag(readFileSync(`${session(id)}.diag`, 'latin1'));

/** A job as A-REX leaves it after submission. */
export function gridJob(
  id: string,
  { localId = `${id}.vm`, state = 'INLRMS', record = '', comment = '' } = {},
): void {
  writeFileSync(status(id), state);
  put(controlFile(id, 'local'), `localid=${localId}\nsessiondir=${session(id)}\n`);
  put(controlFile(id, 'errors'), 'log\n');
  mkdirSync(session(id), { mode: 0o700 });
  own(session(id));
  put(`${session(id)}.diag`, record);
  put(`${session(id)}.comment`, comment);
}

/** What TORQUE says of the batch job of a grid job: whose it is, and where its output goes. */
export const belongsTo = (gridId: string, user = USER_NAME) =>
  `<Job_Owner>${user}@ce</Job_Owner><Error_Path>ce:${session(gridId)}.comment</Error_Path>`;

export function qstat(...jobs: { id: string; state: string; exitStatus?: number; more?: string }[]): void {
  const elements = jobs.map(
    ({ id, state, exitStatus, more = '' }) =>
      `<Job><Job_Id>${id}</Job_Id><job_state>${state}</job_state>${
        exitStatus === undefined ? '' : `<exit_status>${exitStatus}</exit_status>`
      }${more}</Job>`,
  );
  torque.answer('qstat', { stdout: jobs.length === 0 ? '' : `<Data>${elements.join('')}</Data>` });
}

/** Calls of programs, without where they were called from. */
export const calls = () => torque.calls().map((call) => call.replace(/\|.*\|/, '|'));

/** So many passes, each a scan of its own. */
export async function passes(count: number, more: Partial<ScanOptions> = {}): Promise<string[]> {
  const finished: string[] = [];
  for (let pass = 0; pass < count; pass++) finished.push(...(await scanOnce({ ...options(), ...more })));
  return finished;
}
