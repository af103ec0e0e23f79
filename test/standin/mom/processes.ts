// Sessions of jobs as /proc shows them: who is in one, what it uses, and signals to all of it.
import { readdirSync, readFileSync } from 'node:fs';
import { formatDuration } from '../common/format.ts';
import type { Pair } from '../common/protocol.ts';

const TICKS_PER_SECOND = 100;
const PAGE_KB = 4;

interface ProcessState {
  pid: number;
  state: string;
  session: number;
  startTime: string;
  cpuTicks: number;
  vmemBytes: number;
  residentPages: number;
}

export function readProcess(pid: number): ProcessState | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in brackets may hold anything, so fields are counted from the last bracket.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return {
      pid,
      state: fields[0] ?? '',
      session: Number(fields[3]),
      startTime: fields[19] ?? '',
      cpuTicks: Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14]),
      vmemBytes: Number(fields[20]),
      residentPages: Number(fields[21]),
    };
  } catch {
    return undefined;
  }
}

function allProcesses(): ProcessState[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((found) => found !== undefined);
}

/** Living processes of a session. One whose leader is another process than `leaderStart` says is a
 * stranger's. */
export function sessionProcesses(session: number, leaderStart?: string): ProcessState[] {
  const leader = readProcess(session);
  if (leader !== undefined && leaderStart !== undefined && leader.startTime !== leaderStart) return [];
  return allProcesses().filter((found) => {
    if (found.session !== session || found.state === 'Z') return false;
    return leaderStart === undefined || Number(found.startTime) >= Number(leaderStart);
  });
}

/** Sends a signal to all processes of a session; returns those that got it. */
export function signalSession(session: number, leaderStart: string, signal: string): number[] {
  const sent: number[] = [];
  for (const { pid } of sessionProcesses(session, leaderStart)) {
    try {
      process.kill(pid, signal as NodeJS.Signals);
      sent.push(pid);
    } catch {
      // Gone meanwhile, or an unknown signal name, which TORQUE refuses as well.
    }
  }
  return sent;
}

export function isAlive(session: number, leaderStart: string): boolean {
  const leader = readProcess(session);
  return leader !== undefined && leader.startTime === leaderStart && leader.state !== 'Z';
}

/** What a running session uses, in the order of mom's reports on running jobs. */
export function sessionUsage(session: number, leaderStart: string, walltimeSeconds: number): Pair[] {
  const members = sessionProcesses(session, leaderStart);
  const sum = (value: (one: ProcessState) => number): number =>
    members.reduce((total, member) => total + value(member), 0);
  return [
    ['cput', formatDuration(sum((one) => one.cpuTicks) / TICKS_PER_SECOND)],
    ['energy_used', '0'],
    ['mem', `${sum((one) => one.residentPages) * PAGE_KB}kb`],
    ['vmem', `${Math.floor(sum((one) => one.vmemBytes) / 1024)}kb`],
    ['walltime', formatDuration(walltimeSeconds)],
  ];
}
