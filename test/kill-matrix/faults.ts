// What goes wrong in a cell, put under the whole program's file system calls: a full disk, a share that
// hangs, and a process that is struck after one of its effects.
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { STEPS } from '../../src/node/life/steps/table.ts';
import type { Phase } from './cells.ts';

interface Target {
  /** The step's `acquire` or `release`. */
  side: 'acquire' | 'release';
  step: string;
  phase: Phase;
  effect: number;
  strike: () => void;
}

interface Watch {
  /** All of a cell's files are below it; its share is `share` in it. */
  directory: string;
  diskFull: boolean;
  shareHung: boolean;
  /** Calls that a hung share would have kept for good. */
  violations: string[];
  target: Target | undefined;
  struck: boolean;
  inside: boolean;
  effects: number;
  /** Files whose content the disk need not have yet. */
  unsynced: Set<string>;
}

const watches = new Map<string, Watch>();
let depth = 0;

/** Watches a cell's directory; its faults can then be set on the result. */
export function watch(directory: string): Watch {
  const made: Watch = {
    directory,
    diskFull: false,
    shareHung: false,
    violations: [],
    target: undefined,
    struck: false,
    inside: false,
    effects: 0,
    unsynced: new Set(),
  };
  watches.set(directory, made);
  return made;
}

export function unwatch({ directory }: Watch): void {
  watches.delete(directory);
}

function watchOf(path: unknown): Watch | undefined {
  if (typeof path !== 'string') return undefined;
  for (const each of watches.values()) if (path.startsWith(`${each.directory}/`)) return each;
  return undefined;
}

const isOnShare = ({ directory }: Watch, path: string) => path.startsWith(`${directory}/share`);

/** What a step does to the world is what these do. */
const MAKING = [
  'writeFileSync',
  'appendFileSync',
  'openSync',
  'mkdirSync',
  'linkSync',
  'writeSync',
  'ftruncateSync',
  'copyFileSync',
];
const OTHER = ['renameSync', 'unlinkSync', 'rmSync', 'rmdirSync', 'chmodSync', 'chownSync', 'fsyncSync'];
const READING = ['readFileSync', 'readdirSync', 'statSync', 'lstatSync', 'existsSync', 'accessSync'];
const WRITE_FLAGS = fs.constants.O_WRONLY | fs.constants.O_RDWR | fs.constants.O_CREAT;

type Call = (...args: unknown[]) => unknown;
const openFiles = new Map<number, string>();

/** Puts itself under node:fs and node:child_process; once, before anything else. */
export function install(): void {
  const table = fs as unknown as Record<string, Call>;
  for (const name of [...MAKING, ...OTHER, ...READING]) {
    const original = table[name];
    if (original === undefined) throw new Error(`no fs.${name}`);
    table[name] = (...args) => intercepted(name, original, args);
  }
  const spawn = childProcess.spawn as unknown as (...args: unknown[]) => childProcess.ChildProcess;
  (childProcess as { spawn: unknown }).spawn = (...args: unknown[]) => {
    const child = spawn(...args);
    if (String((args[1] as string[] | undefined)?.[1]).startsWith('while IFS= read -r path')) muzzle(child);
    return child;
  };
  for (const step of STEPS) {
    const { acquire, release } = step;
    step.acquire = (job) => around('acquire', step.name, job.state, () => acquire(job));
    step.release = (job) => around('release', step.name, job.state, () => release(job));
  }
}

/** The shell that looks at a share for the program: while it hangs, the question gets no answer. */
function muzzle(child: childProcess.ChildProcess): void {
  const stdin = child.stdin;
  if (stdin === null) return;
  const write = stdin.write.bind(stdin) as (text: string) => boolean;
  stdin.write = ((text: string) =>
    watchOf(text)?.shareHung === true ? true : write(text)) as typeof stdin.write;
}

function intercepted(name: string, original: Call, args: unknown[]): unknown {
  const path = typeof args[0] === 'number' ? openFiles.get(args[0]) : args[0];
  const found = watchOf(path) ?? watchOf(args[1]);
  if (found === undefined || depth > 0) return original(...args);
  const flags = name === 'openSync' && typeof args[1] === 'number' ? args[1] : undefined;
  const makes = flags === undefined ? MAKING.includes(name) : (flags & WRITE_FLAGS) !== 0;
  fail(found, name, String(path), makes);
  depth++;
  let result: unknown;
  try {
    result = original(...args);
  } finally {
    depth--;
  }
  remember(found, name, args, String(path), result);
  if (found.inside && (makes || OTHER.includes(name))) {
    found.effects++;
    if (found.target?.phase === 'during' && found.effects === found.target.effect) strike(found);
  }
  return result;
}

function fail(found: Watch, name: string, path: string, makes: boolean): void {
  if (found.shareHung && isOnShare(found, path)) {
    found.violations.push(`${name} ${path.slice(found.directory.length)}`);
    throw Object.assign(new Error(`${name} would never have come back`), { code: 'EIO', syscall: name });
  }
  if (found.diskFull && makes && !isOnShare(found, path))
    throw Object.assign(new Error(`ENOSPC: no space left on device, ${name} '${path}'`), {
      code: 'ENOSPC',
      syscall: name,
    });
}

/** Which files a power cut would leave empty. */
function remember(found: Watch, name: string, args: unknown[], path: string, result: unknown): void {
  const { unsynced } = found;
  if (name === 'openSync') openFiles.set(result as number, path);
  if (['writeFileSync', 'writeSync', 'appendFileSync'].includes(name)) unsynced.add(path);
  if (name === 'fsyncSync') unsynced.delete(path);
  if ((name === 'renameSync' || name === 'linkSync') && unsynced.has(path)) unsynced.add(String(args[1]));
  if (name === 'renameSync' || name === 'unlinkSync') unsynced.delete(path);
}

/** As the disk may be after a power cut. */
export function losePages({ unsynced, directory }: Watch): void {
  for (const path of unsynced)
    if (!path.startsWith(`${directory}/share`) && !path.startsWith(`${directory}/hv`)) {
      try {
        fs.truncateSync(path);
        // Before this start of the machine, that is.
        fs.utimesSync(path, 1, 1);
      } catch {
        // it was removed again
      }
    }
}

async function around(
  side: Target['side'],
  step: string,
  state: string,
  work: () => Promise<void>,
): Promise<void> {
  const found = watchOf(`${state}/`);
  const target = found?.target;
  if (
    found === undefined ||
    target === undefined ||
    found.struck ||
    target.side !== side ||
    target.step !== step
  )
    return work();
  if (target.phase === 'before') {
    strike(found);
    await heed();
  }
  found.inside = true;
  try {
    await work();
  } finally {
    found.inside = false;
  }
  // A step without any effect has no "during" of its own: what comes next is its end. One without so many is
  // not struck.
  if (!found.struck && target.effect === 1) {
    strike(found);
    await heed();
  }
}

/** A signal comes with the next turns of the event loop, and nothing here need wait for one. */
async function heed(): Promise<void> {
  for (let turns = 0; turns < 3; turns++) await nextTurn();
}

/** What a guest does to the share: not ours to be watched; and while the share hangs, it does nothing. */
export function asGuest(directory: string, work: () => void): void {
  if (watches.get(directory)?.shareHung === true) return;
  depth++;
  try {
    work();
  } finally {
    depth--;
  }
}

function strike(found: Watch): void {
  if (found.struck) return;
  found.struck = true;
  found.inside = false;
  found.target?.strike();
}
