// Room on the node for one more guest: memory that is free and not promised to guests which have yet to use
// theirs, and load.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { domainOf, eachProcess } from '../../hypervisor/guest-process.ts';
import { formatMebibytes, formatSize } from '../../util/units.ts';
import { findRecord, jobIds } from '../record.ts';
import { listTickets } from './turn.ts';

export interface RoomLimits {
  /** Bytes that are to stay free; undefined: memory is not looked at. */
  memoryFloorBytes: number | undefined;
  /** Per processor; undefined: load is not looked at. */
  maxLoad: number | undefined;
}

/** What the machine says of itself; files of /proc, for tests to put others in their place. */
interface Machine {
  meminfo: () => string;
  loadavg: () => string;
  processors: number;
}

const THIS_MACHINE: Machine = {
  meminfo: () => readFileSync('/proc/meminfo', 'latin1'),
  loadavg: () => readFileSync('/proc/loadavg', 'latin1'),
  processors: availableParallelism(),
};

/** Why no guest of that size can start now; undefined: it can.
 * @param needBytes memory of the guest */
export function lackOfRoom(
  state: string,
  jobId: string,
  needBytes: number,
  limits: RoomLimits,
  machine = THIS_MACHINE,
): string | undefined {
  const load = Number(machine.loadavg().split(' ')[0]);
  const most = (limits.maxLoad ?? Number.POSITIVE_INFINITY) * machine.processors;
  if (load > most)
    return `the load is ${load}, and guests start up to ${Math.round(most * 100) / 100} (max_load)`;
  const floor = limits.memoryFloorBytes;
  if (floor === undefined || floor === 0) return undefined;
  const free = memoryAvailable(machine.meminfo());
  if (free === undefined) return undefined;
  const others = othersMemory(state, jobId);
  const enough = (promised: number) => free - promised - needBytes >= floor;
  // What guests use by now is looked up only where it matters.
  if (enough([...others.values()].reduce((sum, bytes) => sum + bytes, 0))) return undefined;
  const promised = stillToCome(others);
  if (enough(promised)) return undefined;
  return `${formatMebibytes(free)} of memory are free, of which other guests may still take ${formatMebibytes(promised)}; this guest takes ${formatMebibytes(
    needBytes,
  )}, and ${formatSize(floor)} are to stay free (memory.free_floor)`;
}

/** Bytes that can be had without swapping. */
function memoryAvailable(meminfo: string): number | undefined {
  const kib = /^MemAvailable:\s+(\d+) kB/m.exec(meminfo)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

/** Memory of all other guests that start or run, by their domains' names; bytes. */
function othersMemory(state: string, jobId: string): Map<string, number> {
  const found = new Map<string, number>();
  const booting = new Set(listTickets(state).flatMap((ticket) => (ticket.boots ? [ticket.jobId] : [])));
  for (const id of jobIds(state)) {
    if (id === jobId) continue;
    const record = findRecord(state, id);
    const step = record?.steps.domain;
    // One that has its turn has not yet said that it is about to have a domain.
    const takes = step === 'acquiring' || step === 'held' || booting.has(id);
    if (record?.request !== undefined && takes) found.set(record.domain, record.request.memoryBytes);
  }
  return found;
}

/** What guests were promised, less what they have taken. */
function stillToCome(promises: ReadonlyMap<string, number>): number {
  const left = new Map(promises);
  for (const { pid, words } of eachProcess()) {
    const name = domainOf(words);
    const promised = name === undefined ? undefined : left.get(name);
    if (name !== undefined && promised !== undefined)
      left.set(name, Math.max(0, promised - residentBytes(pid)));
  }
  return [...left.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it has ended
  }
}
