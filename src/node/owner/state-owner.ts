// Whose the state directory is: that of the machine that first used it. On a shared disk a second node would
// take the jobs of the first for dead, since none of their processes are its own, and remove them while they
// run.
import { linkSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { readForeignFile, removeFile, writeFileAtomic } from '../../util/files/files.ts';
import { compareMachines, describeMachine, thisMachine } from './machine.ts';

const OWNER = z.object({
  version: z.literal(1),
  machine: z.object({
    name: z.string().optional(),
    id: z.string().optional(),
    boot: z.string(),
    hardware: z.array(z.string()),
  }),
  /** When it first used the directory: milliseconds since 1970. */
  since: z.number(),
});
type Owner = z.infer<typeof OWNER>;

const MAX_BYTES = 64 * 1024;

/** Where it is written down. */
export const ownerFile = (state: string): string => join(state, 'owner.json');

/** Makes the directory this machine's if it is nobody's. To be called before anything is written there.
 * @throws VmbatchError `node` (`state-of-another-node`) if it is another's */
export function ownState(state: string, here = thisMachine()): void {
  const owner = readOwner(state);
  if (owner === undefined) {
    const mine: Owner = { version: 1, machine: here, since: Date.now() };
    if (!writeFirst(state, mine)) mustBeOwn(state, here);
    return;
  }
  mustBeOwn(state, here);
  // The name or the machine-id that it has now, and this start of the machine.
  if (JSON.stringify(owner.machine) !== JSON.stringify(here))
    writeFileAtomic(ownerFile(state), textOf({ ...owner, machine: here }), 0o644);
}

/** Only looks.
 * @throws VmbatchError `node` (`state-of-another-node`) if the directory is another machine's */
export function mustBeOwn(state: string, here = thisMachine()): void {
  const problem = foreignOwner(state, here);
  if (problem !== undefined) throw problem;
}

/** Why this machine may not use the directory; undefined: it is its own, or nobody's. */
export function foreignOwner(state: string, here = thisMachine()): VmbatchError | undefined {
  let owner: Owner | undefined;
  try {
    owner = readOwner(state);
  } catch (thrown) {
    return thrown as VmbatchError;
  }
  if (owner === undefined) return undefined;
  const comparison = compareMachines(owner.machine, here);
  if (comparison.is === 'same') return undefined;
  const since = new Date(owner.since).toISOString();
  return refusal(
    `${state} belongs to ${describeMachine(owner.machine)} since ${since}, and this is ${describeMachine(here)}: ${comparison.why}`,
  );
}

/** Makes the directory this machine's, whoever had it.
 * @returns who had it, in words; undefined: nobody, or this machine */
export function adoptState(state: string, here = thisMachine()): string | undefined {
  let before: string | undefined;
  try {
    const owner = readOwner(state);
    if (owner !== undefined && foreignOwner(state, here) !== undefined)
      before = describeMachine(owner.machine);
  } catch {
    before = 'somebody unknown';
  }
  writeFileAtomic(ownerFile(state), textOf({ version: 1, machine: here, since: Date.now() }), 0o644);
  return before;
}

function readOwner(state: string): Owner | undefined {
  const content = readForeignFile(ownerFile(state), { maxBytes: MAX_BYTES, ownerUid: 0 }, 'node');
  if (content === undefined) return undefined;
  try {
    return OWNER.parse(JSON.parse(content.toString('utf8')));
  } catch (error) {
    throw refusal(`${ownerFile(state)} does not say whose the state directory is`, error);
  }
}

/** @returns false if another process was first */
function writeFirst(state: string, owner: Owner): boolean {
  const path = ownerFile(state);
  const temporary = `${path}.first`;
  const own = `${temporary}.${process.pid}`;
  writeFileAtomic(own, textOf(owner), 0o644);
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    removeFile(own);
  }
}

const textOf = (owner: Owner) => `${JSON.stringify(owner, undefined, 1)}\n`;

function refusal(message: string, cause?: unknown): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'state-of-another-node',
    message,
    hint:
      'give each node a state directory of its own (state: in the node file). If it is this machine under another ' +
      "name, or is to be this one's from now on: vmbatch node adopt",
    cause,
  });
}
