// `vmbatch ssh`: an OpenSSH client set up for one guest, with the job's key and the pinned host key and
// nothing of the admin's own.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSession, type Session, sessionPaths } from '../../guest/session/session-file.ts';
import { VmbatchError } from '../../util/errors.ts';

/** Arguments for `ssh`. Pure.
 * @param directory holds `key` and `known_hosts`
 * @param command words that the guest's shell gets as one line; none: an interactive session */
export function sshArguments(session: Session, directory: string, command: readonly string[]): string[] {
  return [
    ...['-F', '/dev/null', '-i', join(directory, 'key'), '-p', String(session.port), '-l', session.user],
    ...['-o', `UserKnownHostsFile=${join(directory, 'known_hosts')}`, '-o', 'GlobalKnownHostsFile=/dev/null'],
    ...['-o', 'StrictHostKeyChecking=yes', '-o', 'HostKeyAlias=vmbatch-guest', '-o', 'IdentitiesOnly=yes'],
    ...['-o', 'PasswordAuthentication=no', '-o', 'LogLevel=ERROR'],
    ...['--', session.host, ...command],
  ];
}

/** Reads the job's session and writes what ssh needs into `directory`, which is root's alone.
 * @throws VmbatchError `job` if the guest is not one that can be logged in to (yet, or any more). */
export function prepareSsh(
  state: string,
  jobId: string,
  directory: string,
  command: readonly string[],
): string[] {
  const paths = sessionPaths(state, jobId);
  if (!existsSync(paths.session))
    throw new VmbatchError({
      fault: 'job',
      code: 'guest-absent',
      message: `job ${jobId} has no guest that can be logged in to: it is still starting, or gone`,
      hint: `vmbatch console ${jobId} shows what it says, or said; debug.keep_on_failure keeps guests of failed jobs`,
      jobId,
    });
  const session = readSession(paths, jobId);
  writeFileSync(join(directory, 'key'), session.privateKey, { mode: 0o600 });
  writeFileSync(join(directory, 'known_hosts'), `vmbatch-guest ${session.hostKey}\n`, { mode: 0o600 });
  return sshArguments(session, directory, command);
}
