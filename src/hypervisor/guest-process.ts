// The host's process of a guest, found in /proc: tells without any help that a guest died, and ends a guest
// when libvirt cannot.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestProcess } from './port.ts';

/** The QEMU process of the domain `name`; libvirt puts `-name guest=NAME,…` on its command line. Undefined
 * if there is none (not started, ended, or a hypervisor whose guests are no processes). */
export function findGuestProcess(name: string): GuestProcess | undefined {
  return findProcess((words) => domainOf(words) === name);
}

/** The domain that a process is the guest of, by its command line; undefined: none. */
export function domainOf(words: readonly string[]): string | undefined {
  const at = words.indexOf('-name');
  return at === -1 ? undefined : /^guest=([^,]*)/.exec(words[at + 1] ?? '')?.[1];
}

/** This very process. */
export function thisProcess(): GuestProcess {
  return { pid: process.pid, startTicks: startTicksOf(process.pid) ?? 0 };
}

/** The first process whose command line, word by word, and owner are what is looked for. */
export function findProcess(
  matches: (words: readonly string[], uid: number) => boolean,
): GuestProcess | undefined {
  for (const { pid, words, uid } of eachProcess()) {
    if (!matches(words, uid)) continue;
    const startTicks = startTicksOf(pid);
    if (startTicks !== undefined) return { pid, startTicks };
  }
  return undefined;
}

/** A process as /proc shows it. */
export interface ProcessEntry {
  pid: number;
  /** -1: it has ended meanwhile. */
  uid: number;
  /** Its command line. */
  words: readonly string[];
}

/** The processes of this host that have a command line, as they are come to. */
export function* eachProcess(): Generator<ProcessEntry> {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const line = readProc(`/proc/${entry}/cmdline`);
    if (line === undefined || line === '') continue;
    const uid = statSync(`/proc/${entry}`, { throwIfNoEntry: false })?.uid ?? -1;
    yield { pid: Number(entry), uid, words: line.split('\0') };
  }
}

/** A variable of a process's environment as it was started; undefined if it has none, or is not for us to
 * see. */
export function environmentOf(pid: number, name: string): string | undefined {
  const entries = readProc(`/proc/${pid}/environ`)?.split('\0') ?? [];
  return entries.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
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
