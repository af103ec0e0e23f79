// What is left of jobs on the node, counted from the outside: libvirt, files and processes, not our own word.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openVirsh } from '../../src/hypervisor/virsh.ts';
import { run } from '../../src/util/run.ts';
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
  const hypervisor = openVirsh({ uri: site.libvirtUri, timeoutMs: 60_000, run });
  const domains = (await hypervisor.list()).filter((name) => name.startsWith('vmbatch-'));
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
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry) => {
      try {
        return readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      } catch {
        return []; // ended meanwhile
      }
    })
    .filter((words) => {
      const guest = words[words.indexOf('-name') + 1]?.startsWith('guest=vmbatch-') ?? false;
      const ours = words.some((word) => word.startsWith(`${site.state}/jobs/`));
      const hook =
        words[1] === join(site.dist, 'vmbatch') && ['prologue', 'run', 'epilogue'].includes(words[2] ?? '');
      return (guest && ours) || (guest && words.some((word) => word.includes(site.state))) || hook;
    }).length;
}
