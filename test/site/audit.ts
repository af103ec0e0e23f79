// What is left of jobs on the node, counted from the outside: libvirt, files and processes, not our own word.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { commandLine, guestProcesses, listGuests } from './guests.ts';
import type { Site } from './site.ts';

/** Everything that a job's guest is made of; zero each when all is well. */
export interface Leftovers {
  domains: number;
  disks: number;
  isos: number;
  leases: number;
  locks: number;
  keys: number;
  processes: number;
}

export async function audit(site: Site): Promise<Leftovers> {
  const domains = await listGuests(site);
  const files = filesBelow(site.state);
  const count = (pattern: RegExp) => files.filter((file) => pattern.test(file)).length;
  return {
    domains: domains.length,
    disks: count(/\.qcow2$/),
    isos: count(/\.iso$/),
    leases: count(/^leases\//),
    // Records and marks of jobs, and what their guests wrote on the share.
    locks: count(/^jobs\/[^/]+\/(record\.json|ended|domain\.xml)$/) + filesBelow(readyDirectory(site)).length,
    keys: count(/^sessions\//),
    processes: processesOf(site),
  };
}

function readyDirectory(site: Site): string {
  return join(site.share, '.vmbatch/ready');
}

function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  } catch {
    return [];
  }
}

/** Guests, and hooks or job starters of ours, that still run for this site. */
function processesOf(site: Site): number {
  const program = join(site.dist, 'vmbatch');
  const hooks = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(commandLine)
    .filter((words) => words[1] === program && ['prologue', 'run', 'epilogue'].includes(words[2] ?? ''));
  return guestProcesses(site.serverName).length + hooks.length;
}
