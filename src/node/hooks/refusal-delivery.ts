// The owner of a refused job reads why where the job's error output would have gone. TORQUE leaves that in
// its spool.
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { HookArguments } from '../../batch/torque/mom/hook-arguments.ts';
import { readMomConfig, settingsNamed } from '../../batch/torque/mom/mom-config.ts';
import { parseMomJob } from '../../batch/torque/mom/mom-job-file.ts';
import { errorPlace, type OutputPlace } from '../../batch/torque/mom/output-place.ts';
import { type Account, findAccount } from '../../util/accounts/account.ts';
import { type FileResult, openUserFiles } from '../../util/accounts/as-user.ts';
import { toVmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import type { Log } from '../../util/log.ts';
import { momOfHook } from '../mom.ts';
import { momFileOf } from '../mom-jobs.ts';

/** A job may have many variables. Bytes. */
const MAX_MOM_FILE_BYTES = 64 * 1024 * 1024;
/** A home may hang. */
const WRITE_MS = 5_000;

/** Writes `text` into the job's error file, as its owner. Never fails; the log says where the words went, or
 * why nowhere. */
export async function deliverRefusal(hook: HookArguments, text: string, log: Log): Promise<void> {
  const untold = (why: string) => log.write('warn', `the owner of this refused job was not told why: ${why}`);
  try {
    const found = await placeOf(hook);
    if (found.place.is === 'discarded') return;
    if (found.place.is === 'unreachable') return untold(found.place.why);
    const { path, result } = await write(found.account, found.place, found.mode, `${text}\n`);
    if (result === undefined) untold(`${path}: no answer for ${WRITE_MS / 1000} s`);
    else if (!result.ok) untold(`${path} ${result.why}`);
    else log.write('info', `the owner of this refused job reads why in ${path}`);
  } catch (thrown) {
    untold(toVmbatchError(thrown, 'node').message);
  }
}

type Found = { place: OutputPlace; account: Account; mode: number };

async function placeOf(hook: HookArguments): Promise<Found> {
  const account = await findAccount(hook.user);
  const file = momFileOf(hook.script) ?? '';
  const bounds = { maxBytes: MAX_MOM_FILE_BYTES, ownerUid: 0 };
  const job = parseMomJob(readForeignFile(file, bounds, 'node')?.toString('utf8') ?? '');
  if (job === undefined) {
    const why = `${file}, the mom's file of the job, does not say where its output goes`;
    return { place: { is: 'unreachable', why }, account, mode: 0 };
  }
  const config = readMomConfig(momOfHook(hook.script)?.config ?? 'config');
  const given = settingsNamed(config, 'mom_host').map(({ value }) => value);
  const hostNames = [hostname(), process.env['PBS_MSHOST'] ?? '', ...given].filter((name) => name !== '');
  const { jobId, queue } = hook;
  const place = errorPlace(job, { jobId, queue, owner: account, hostNames, config });
  return { place, account, mode: 0o666 & ~job.umask };
}

/** Where the path is a directory, into a file in there. What the owner can read there already, since the
 * output was written there from the first byte on (`qsub -k`), is not written twice. */
async function write(
  account: Account,
  { path, inDirectory }: { path: string; inDirectory: string },
  createMode: number,
  text: string,
): Promise<{ path: string; result: FileResult | undefined }> {
  const data = Buffer.from(text).toString('latin1');
  const files = openUserFiles(account, { fault: 'node', deadlineMs: WRITE_MS });
  const append = async (file: string) => {
    const operation = { do: 'append', path: file, data, unlessHas: data, createMode } as const;
    const [result] = await files.perform([operation]);
    return { path: file, result };
  };
  try {
    const written = await append(path);
    const isDirectory = written.result?.ok === false && written.result.errno === 'EISDIR';
    return isDirectory ? await append(join(path, inDirectory)) : written;
  } finally {
    files.close();
  }
}
