// Whose turn it is to boot. Guests that boot at once take the processors from each other, and all of them are late together; so only
// as many boot at a time as the node has processors. Each start has a ticket, a file in the state directory that names
// the process that waits or boots; who has the oldest ones boots. Tickets of processes that are gone count for nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { processRuns } from '../hypervisor/guest-process.ts';
import type { GuestProcess } from '../hypervisor/port.ts';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { makeDirectory, removeFile, writeFileAtomic } from '../util/files.ts';

const TICKET = z.object({ pid: z.int(), startTicks: z.int() });
const LOOK_MS = 150;

export interface TurnOptions {
  /** How many may boot at a time. */
  limit: number;
  /** The process that boots: with its end its turn is over. */
  self: GuestProcess;
  deadlineMs: number;
  signal: AbortSignal;
}

function turnDirectory(state: string): string {
  return join(state, 'starts');
}

/** The name of a new ticket: later ones come after earlier ones, whatever the job. */
export function ticketName(jobId: string, now = Date.now()): string {
  return `${String(now).padStart(15, '0')}-${jobId}`;
}

/** Draws a ticket and waits until it is one of the oldest.
 * @throws VmbatchError `node` (`starts-busy`) when the time is over; the signal's reason when aborted */
export async function awaitTurn(state: string, ticket: string, options: TurnOptions): Promise<void> {
  const directory = turnDirectory(state);
  makeDirectory(directory, 0o700);
  writeFileAtomic(join(directory, ticket), JSON.stringify(options.self), 0o600);
  const started = performance.now();
  while (ahead(directory, ticket, options.limit) >= options.limit) {
    options.signal.throwIfAborted();
    if (performance.now() - started > options.deadlineMs)
      throw new VmbatchError({
        fault: 'node',
        code: 'starts-busy',
        message: `its turn to boot did not come within ${Math.round(options.deadlineMs / 1000)} s: ${options.limit} guests boot at a time here`,
        hint: 'guests that take long to boot keep others waiting; starts in the node file says how many may boot at once',
      });
    await sleep(LOOK_MS, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** The turn is over; no error if it has been. */
export function endTurn(state: string, ticket: string): void {
  removeFile(join(turnDirectory(state), ticket));
}

/** All tickets, with the job that each is of. */
export function listTickets(state: string): { ticket: string; jobId: string }[] {
  let names: string[];
  try {
    names = readdirSync(turnDirectory(state));
  } catch {
    return [];
  }
  return names.flatMap((ticket) => {
    const jobId = /^\d+-(.+)$/.exec(ticket)?.[1];
    return jobId === undefined || ticket.endsWith('.tmp') ? [] : [{ ticket, jobId }];
  });
}

/** How many living tickets are older, as far as it matters. */
function ahead(directory: string, own: string, limit: number): number {
  let count = 0;
  for (const name of readdirSync(directory).sort()) {
    if (name >= own || count >= limit) break;
    // A ticket is complete as soon as it can be seen; temporary ones have another ending.
    if (name.endsWith('.tmp')) continue;
    const holder = readTicket(join(directory, name));
    if (holder === undefined) continue;
    if (processRuns(holder)) count++;
    else removeFile(join(directory, name));
  }
  return count;
}

function readTicket(path: string): GuestProcess | undefined {
  try {
    return TICKET.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    // Not one of ours, or what a power cut has left.
    removeFile(path);
    return undefined;
  }
}
