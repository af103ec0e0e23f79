// The guests of one site: on a hypervisor that others use as well, only these are its own to count and to
// end.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openVirsh } from '../../src/hypervisor/virsh.ts';
import { runSheltered } from './sheltered.ts';

/** What is needed to ask for a site's guests. */
export interface SiteHypervisor {
  libvirtUri: string;
  /** The site's program: fake guests are known to a fake virsh alone. */
  virsh: string;
  serverName: string;
}

/** Whether a domain is a guest of the site: its name is `vmbatch-JOBID`, and a job's id ends in the server's
 * name, which no other site has. */
export function isGuestOf(serverName: string, domain: string): boolean {
  // A job on several nodes has one on each.
  return domain.startsWith('vmbatch-') && domain.replace(/\.node\d+$/, '').endsWith(`.${serverName}`);
}

/** Names of the site's running domains. */
export async function listGuests(site: SiteHypervisor): Promise<string[]> {
  const domains = await hypervisor(site).list();
  return domains.filter((name) => isGuestOf(site.serverName, name));
}

/** Ends the site's guests, those too that libvirt is just about to start. Returns a line for each. */
export async function destroyGuests(site: SiteHypervisor): Promise<string[]> {
  const ended = new Set<string>();
  const { destroy } = hypervisor(site);
  for (let round = 0; round < 20; round++) {
    const names = new Set([
      ...(await listGuests(site)),
      ...guestProcesses(site.serverName).map(({ domain }) => domain),
    ]);
    if (names.size === 0) break;
    for (const name of names) ended.add(`domain ${name}`);
    await Promise.all([...names].map((name) => destroy(name)));
    await sleep(100);
  }
  return [...ended];
}

/** Ends the site's guests whose libvirtd is gone. */
export async function killGuestProcesses(serverName: string): Promise<string[]> {
  const ended = new Set<string>();
  for (let round = 0; round < 40; round++) {
    const running = guestProcesses(serverName);
    if (running.length === 0) break;
    for (const { pid, domain } of running) {
      ended.add(`process ${pid} of domain ${domain}`);
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    }
    await sleep(50);
  }
  return [...ended];
}

/** QEMU's processes; libvirt gives them `-name guest=DOMAIN,…`, and the fake virsh does so too. */
export function guestProcesses(serverName: string): { pid: number; domain: string }[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      const words = commandLine(entry);
      const domain = /^guest=([^,]*)/.exec(words[words.indexOf('-name') + 1] ?? '')?.[1];
      return domain !== undefined && isGuestOf(serverName, domain) ? [{ pid: Number(entry), domain }] : [];
    });
}

/** The words of a process's command line; none if it has ended. */
export function commandLine(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

function hypervisor({ libvirtUri, virsh }: SiteHypervisor) {
  return openVirsh({
    uri: libvirtUri,
    timeoutMs: 8_000,
    run: (_virsh, args, options) => runSheltered(virsh, args, options),
  });
}
