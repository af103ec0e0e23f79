// Which type of domain a node's guests have.
import { accessSync, constants, readFileSync } from 'node:fs';
import type { DomainType } from './port.ts';

/** The domain type to use. `auto` goes by the connection, and takes KVM only where the processor has it:
 * /dev/kvm alone proves nothing, a virtual host may offer a device on which no guest runs. */
export function chooseDomainType(configured: 'auto' | DomainType, uri = 'qemu:///system'): DomainType {
  if (configured !== 'auto') return configured;
  if (uri.startsWith('xen')) return 'xen';
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'kvm' : 'qemu';
  } catch {
    return 'qemu';
  }
}
