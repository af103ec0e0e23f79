// Whose turn it is to boot. Guests that boot at once take the processors from each other, and all of them are
// late together; so only as many boot at a time as the node has processors, and only where there is room.
// Each start has a ticket, a file in the state directory that names the process that waits or boots; who has
// the oldest one boots first. Tickets of processes that are gone count for nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { processRuns } from '../../hypervisor/guest-process.ts';
import type { GuestProcess } from '../../hypervisor/port.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { makeDirectory, namesIn, removeFile, writeFileAtomic } from '../../util/files/files.ts';

const TICKET = z.object({
  pid: z.int(),
  startTicks: z.int(),
  /** It has its turn; otherwise it waits. */
  boots: z.boolean().optional(),
});
type Ticket = z.infer<typeof TICKET>;
const LOOK_MS = 150;

export interface TurnOptions {
  /** How many may boot at a time; 0: any number. */
  limit: number;
  /** Why there is no room for the guest now; undefined: there is. Asked only of the oldest that waits. */
  lack?: () => string | undefined;
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

/** Draws a ticket and waits until it is one of the oldest, nobody older waits, and there is room.
 * @throws VmbatchError `node` (`starts-busy`, `no-room`) when the time is over; the signal's reason when
 * aborted */
export async function awaitTurn(state: string, ticket: string, options: TurnOptions): Promise<void> {
  const directory = turnDirectory(state);
  makeDirectory(directory, 0o700);
  const write = (changes: Partial<Ticket>) =>
    writeFileAtomic(join(directory, ticket), JSON.stringify({ ...options.self, ...changes }), 0o600);
  write({});
  const started = performance.now();
  for (;;) {
    options.signal.throwIfAborted();
    const { waiting, booting } = older(directory, ticket);
    const isFull = options.limit > 0 && booting >= options.limit;
    // Nobody overtakes another for being smaller.
    const lack = waiting || isFull ? undefined : options.lack?.();
    if (!waiting && !isFull && lack === undefined) {
      write({ boots: true });
      return;
    }
    if (performance.now() - started > options.deadlineMs) throw tooLate(options, lack);
    await sleep(LOOK_MS, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

function tooLate({ deadlineMs, limit }: TurnOptions, lack: string | undefined): VmbatchError {
  const seconds = Math.round(deadlineMs / 1000);
  if (lack !== undefined)
    return new VmbatchError({
      fault: 'node',
      code: 'no-room',
      message: `there was no room for the guest within ${seconds} s: ${lack}`,
      hint: 'are there more slots than the node has memory for?',
    });
  return new VmbatchError({
    fault: 'node',
    code: 'starts-busy',
    message: `its turn to boot did not come within ${seconds} s: ${limit > 0 ? `${limit} guests boot at a time here` : 'others wait before it'}`,
    hint: 'guests that take long to boot keep others waiting; starts in the node file says how many may boot at once',
  });
}

/** The turn is over; no error if it has been. */
export function endTurn(state: string, ticket: string): void {
  removeFile(join(turnDirectory(state), ticket));
}

/** All tickets, with the job that each is of, and whether it has its turn. */
export function listTickets(state: string): { ticket: string; jobId: string; boots: boolean }[] {
  return namesIn(turnDirectory(state)).flatMap((ticket) => {
    const jobId = /^\d+-(.+)$/.exec(ticket)?.[1];
    return jobId === undefined || ticket.endsWith('.tmp')
      ? []
      : [{ ticket, jobId, boots: readTicket(join(turnDirectory(state), ticket))?.boots === true }];
  });
}

/** What living tickets that are older do: whether any waits, and how many boot. */
function older(directory: string, own: string): { waiting: boolean; booting: number } {
  const found = { waiting: false, booting: 0 };
  for (const name of readdirSync(directory).sort()) {
    if (name >= own) break;
    // A ticket is complete as soon as it can be seen; temporary ones have another ending.
    if (name.endsWith('.tmp')) continue;
    const holder = readTicket(join(directory, name));
    if (holder === undefined) continue;
    if (!processRuns(holder)) removeFile(join(directory, name));
    else if (holder.boots === true) found.booting++;
    else found.waiting = true;
  }
  return found;
}

function readTicket(path: string): Ticket | undefined {
  try {
    return TICKET.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    // Not one of ours, or what a power cut has left.
    removeFile(path);
    return undefined;
  }
}
