// The bytes of a qcow2 disk as those of a plain file, so that programs for disks can work on them: QEMU's
// storage daemon shows them through FUSE. What is written goes into the qcow2 file alone, never into what it
// stands on.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '../../util/processes/run.ts';
import { layerFailed } from './guest-tree.ts';

const START_MS = 30_000;
const STOP_MS = 60_000;
const HINT =
  'install qemu-system-common (Debian) or qemu-storage-daemon (RPM), and load the kernel module fuse';

export interface ExposedDisk {
  /** Everything is on the disk once it returns. */
  close(): Promise<void>;
}

/** Shows the disk as the file `disk` in a directory.
 * @throws VmbatchError `node` (`layer-failed`) */
export async function exposeDisk(disk: string, directory: string): Promise<ExposedDisk> {
  const path = join(directory, 'disk');
  const pidFile = join(directory, 'daemon.pid');
  writeFileSync(path, '', { mode: 0o600 });
  // It ends with us, however we end.
  const args = [
    ...['--pdeathsig', 'KILL', '--', 'qemu-storage-daemon'],
    ...['--blockdev', `driver=file,node-name=file,filename=${optionValue(disk)}`],
    ...['--blockdev', 'driver=qcow2,node-name=disk,file=file'],
    ...['--export', `type=fuse,id=disk,node-name=disk,mountpoint=${optionValue(path)},writable=on`],
    ...['--pidfile', pidFile],
  ];
  const child = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaint = `${complaint}${chunk}`.slice(-2000);
  });
  const ended = new Promise<void>((resolve) => {
    child.on('error', (error) => {
      complaint = error.message;
      resolve();
    });
    child.on('close', () => resolve());
  });
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  const deadline = Date.now() + START_MS;
  // The file with its process id is written once the exports are there.
  while (!isReady(pidFile)) {
    if (isOver) throw layerFailed(`qemu-storage-daemon: ${complaint.trim() || 'ended at once'}`, HINT);
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw layerFailed(
        `qemu-storage-daemon shows no disk after ${START_MS / 1000} s: ${complaint.trim()}`,
        HINT,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    async close() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(timer);
      if (child.exitCode !== 0)
        throw layerFailed(
          `qemu-storage-daemon failed at the end: ${complaint.trim() || `exit code ${child.exitCode}`}`,
        );
    },
  };
}

/** Removes the mount that a killed daemon leaves. No error if there is none. */
export async function forgetExposedDisk(run: Run, directory: string): Promise<void> {
  await run('umount', ['-l', join(directory, 'disk')], { timeoutMs: STOP_MS });
}

function isReady(pidFile: string): boolean {
  try {
    return readFileSync(pidFile, 'utf8').trim() !== '';
  } catch {
    return false;
  }
}

/** A comma ends an option of QEMU's, two are one. */
function optionValue(text: string): string {
  return text.replaceAll(',', ',,');
}
