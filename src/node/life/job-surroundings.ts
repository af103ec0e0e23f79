// What the mom gave the job besides its script: its environment and its limits. They are read from the shim's
// process, which keeps them away from our own.
import { readFileSync } from 'node:fs';
import { type Limit, parseLimits } from '../../guest/session/limits.ts';

/** Names that speak of this process or of the node, not of the job in its guest. */
const NOT_THE_JOBS = new Set([
  ...['_', 'OLDPWD', 'PWD', 'SHLVL', 'HOSTNAME'],
  ...['PBS_NODEFILE', 'PBS_GPUFILE', 'PBS_MICFILE'],
]);

export function jobEnvironment(environment: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !NOT_THE_JOBS.has(name)));
}

/** The environment that a process was started with, byte for byte: Node's own view of it replaces what is not
 * UTF-8.
 * @param pid of a process of the same user */
export function readEnvironment(pid: number): Record<string, string> {
  const entries = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').filter(Boolean);
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** The limits of a process. Not of this one: Node raises its number of open files when it starts. */
export function readLimits(pid: number): Limit[] {
  return parseLimits(readFileSync(`/proc/${pid}/limits`, 'latin1'));
}
