// How faults get at jobs: programs in front of the hooks' own for what must happen at a certain step, signals
// for the rest.
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shellQuote } from '../../src/util/quote.ts';
import { guestProcesses } from '../site/guests.ts';
import { family, signalProcess, starterProcesses } from '../site/processes.ts';
import { runSheltered } from '../site/sheltered.ts';
import type { Site } from '../site/site.ts';
import type { Fault } from './plan.ts';

/** The marker of a job that something is to happen to: the programs look for it, and take it away. */
const marker = (site: Site, jobId: string) => join(site.directory, 'fake/faults', jobId);

/** Puts a `qemu-img` and a `virsh` in front of the hooks' own, on all nodes. */
export function installFaults(site: Site): void {
  const faults = join(site.directory, 'fake/faults');
  mkdirSync(faults);
  const bin = join(site.directory, 'fake/bin');
  const put = (name: string, text: string) => writeFileSync(join(bin, name), text, { mode: 0o755 });
  const qemuImg = execFileSync('/bin/sh', ['-c', 'command -v qemu-img'], { encoding: 'utf8' }).trim();
  const begin = `#!/bin/sh\nfaults=${shellQuote(faults)}\nfor last; do :; done\n`;
  // The hook is our parent.
  put(
    'qemu-img',
    `${begin}job=\${last%/*}
fault=$faults/\${job##*/}
if [ -e "$fault" ]; then
  what=$(cat "$fault")
  case $what in
    disk-full) rm "$fault"; echo "qemu-img: $last: No space left on device" >&2; exit 1 ;;
    prologue-killed) rm "$fault"; kill -KILL $PPID; exit 1 ;;
  esac
fi
exec ${shellQuote(qemuImg)} "$@"
`,
  );
  renameSync(join(bin, 'virsh'), join(bin, 'virsh.real'));
  put(
    'virsh',
    `${begin}case " $* " in
  *" destroy "*)
    fault=$faults/\${last#vmbatch-}
    if [ -e "$fault" ] && [ "$(cat "$fault")" = epilogue-killed ]; then
      rm "$fault"
      kill -KILL $PPID
      exit 1
    fi ;;
esac
exec ${shellQuote(join(bin, 'virsh.real'))} "$@"
`,
  );
}

/** What is to happen to a job that is not submitted yet. */
export function prepareFault(site: Site, jobId: string, fault: Fault): void {
  if (['disk-full', 'prologue-killed', 'epilogue-killed'].includes(fault))
    writeFileSync(marker(site, jobId), fault);
}

/** What happens to a job whose script runs. */
export async function strike(site: Site, jobId: string, fault: Fault): Promise<void> {
  switch (fault) {
    case 'qdel':
      await runSheltered(join(site.standin.binDir, 'qdel'), [jobId], { env: site.env });
      return;
    case 'starter-killed':
      for (const pid of starterProcesses(jobId)) signalProcess(pid, 'SIGKILL');
      return;
    case 'guest-killed':
      for (const pid of guestOf(site, jobId)) signalProcess(pid, 'SIGKILL');
      return;
    case 'guest-hangs':
      for (const pid of guestOf(site, jobId).flatMap(family)) signalProcess(pid, 'SIGSTOP');
      return;
    default:
      return;
  }
}

function guestOf(site: Site, jobId: string): number[] {
  return guestProcesses(site.serverName)
    .filter(({ domain }) => domain === `vmbatch-${jobId}`)
    .map(({ pid }) => pid);
}
