// The libvirt domain of a job's guest, as XML text.
import { createHash } from 'node:crypto';
import { accessSync, constants, readFileSync } from 'node:fs';
import { renderTemplate } from '../util/template.ts';
import type { DomainType } from './port.ts';

export interface DomainDescription {
  /** `vmbatch-JOBID`: a domain without a record still tells whose it was. */
  name: string;
  type: DomainType;
  vcpus: number;
  memoryBytes: number;
  boot: { type: 'disk' } | { type: 'kernel'; kernel: string; initrd: string; commandLine: string };
  overlay: string;
  contextIso: string;
  consoleLog: string;
  network: {
    mac: string;
    /** The loopback port of the node that leads to the guest's SSH server. */
    forwardedPort: number;
  };
}

/** Pure: the same description gives the same text. Everything is escaped by the template's language. */
export function renderDomainXml(domain: DomainDescription): string {
  return renderTemplate('domain.xml', { ...domain, memoryKiB: Math.ceil(domain.memoryBytes / 1024) }, 'xml');
}

/** The domain type to use. `auto` takes KVM only where the processor has it: /dev/kvm alone proves nothing,
 * a virtual host may offer a device on which no guest runs. */
export function chooseDomainType(configured: 'auto' | DomainType): DomainType {
  if (configured !== 'auto') return configured;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'kvm' : 'qemu';
  } catch {
    return 'qemu';
  }
}

/** A locally administered unicast address that follows from the job, so that a retry has the same. */
export function macAddress(jobId: string): string {
  const bytes = createHash('sha256').update(jobId).digest().subarray(0, 3);
  return ['52', '54', '00', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
