// The host's process of a guest, found in /proc: tells without any help that a guest died, and ends a guest
// when libvirt cannot.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestProcess } from './port.ts';

/** The QEMU process of the domain `name`; libvirt puts `-name guest=NAME,…` on its command line. Undefined
 * if there is none (not started, ended, or a hypervisor whose guests are no processes). */
export function findGuestProcess(name: string): GuestProcess | undefined {
  return findProcess((words) => {
    const at = words.indexOf('-name');
    return at !== -1 && words[at + 1]?.split(',')[0] === `guest=${name}`;
  });
}

/** The first process whose command line, word by word, and owner are what is looked for. */
export function findProcess(
  matches: (words: readonly string[], uid: number) => boolean,
): GuestProcess | undefined {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const words = readProc(`/proc/${entry}/cmdline`)?.split('\0') ?? [];
    if (!matches(words, statSync(`/proc/${entry}`, { throwIfNoEntry: false })?.uid ?? -1)) continue;
    const startTicks = startTicksOf(Number(entry));
    if (startTicks !== undefined) return { pid: Number(entry), startTicks };
  }
  return undefined;
}

/** Whether exactly this process still runs; a zombie does not. */
export function processRuns(process: GuestProcess): boolean {
  return startTicksOf(process.pid) === process.startTicks;
}

/** The start time of a living process in clock ticks, or undefined if there is none. */
export function startTicksOf(pid: number): number | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses and may hold anything, blanks and ')' too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  if (state === 'Z' || state === 'X') return undefined;
  const ticks = Number(fields[19]);
  return Number.isInteger(ticks) ? ticks : undefined;
}

/** SIGKILL, then waits up to 5 s for the process to be gone; false if it still is there. */
export async function stopGuestProcess(guest: GuestProcess): Promise<boolean> {
  for (let tries = 0; tries < 100 && processRuns(guest); tries++) {
    if (tries % 20 === 0) {
      try {
        process.kill(guest.pid, 'SIGKILL');
      } catch {
        break; // gone between the look and the signal
      }
    }
    await sleep(50);
  }
  return !processRuns(guest);
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // processes end while one looks
  }
}
