// A guest that the hypervisor has stopped in the middle of its work: it neither dies nor goes on, and only
// the hypervisor knows why.

import { statfsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DomainState, Hypervisor } from '../../../hypervisor/port.ts';
import type { ErrorCode } from '../../../util/error-codes.ts';
import { formatMebibytes } from '../../../util/units.ts';

/** What ends a wait for a guest. */
export interface Trouble {
  code: ErrorCode;
  message: string;
  hint: string;
}

/** A pause that is none: the hypervisor goes on by itself. */
const PASSING = /starting up|snapshot|migrat|saving|dump|post-copy$/i;

/** Why a guest is stopped, in words; undefined: it runs, it is gone, or nobody can say.
 * @param state the directory of its disks */
export async function stoppedBecause(
  hypervisor: Pick<Hypervisor, 'state'>,
  domain: string,
  state: string,
): Promise<Trouble | undefined> {
  let found: DomainState | undefined;
  try {
    found = await hypervisor.state(domain);
  } catch {
    return undefined;
  }
  if (found === undefined || found.state !== 'paused' || PASSING.test(found.reason)) return undefined;
  const { bavail, bsize } = statfsSync(state);
  const free = `${state} has ${formatMebibytes(bavail * bsize)} free`;
  const isDisk = /I\/O error/i.test(found.reason) || found.diskErrors.length > 0;
  const details = [found.reason, ...found.diskErrors].filter((text) => text !== '').join('; ');
  return isDisk
    ? {
        code: found.diskErrors.some((text) => text.includes('no space')) ? 'disk-full' : 'disk-failed',
        message: `the hypervisor has stopped the guest, since it could not write to its disk (${details}); ${free}`,
        hint: 'make room on that disk, or raise disk.free_floor and the disk of the image in the node file',
      }
    : {
        code: 'guest-paused',
        message: `the hypervisor has stopped the guest (paused: ${details}); ${free}`,
        hint: `virsh domstate --reason ${domain}, and the log of libvirt say more`,
      };
}

/** A guest that boots as it should is not asked about. */
const FIRST_MS = 4_000;
const EVERY_MS = 5_000;

/** Asks now and then whether the guest is stopped.
 * @returns what was found last */
export function watchForTrouble(
  hypervisor: Pick<Hypervisor, 'state'>,
  domain: string,
  state: string,
  { signal, firstMs = FIRST_MS }: { signal: AbortSignal; firstMs?: number },
): () => Trouble | undefined {
  let trouble: Trouble | undefined;
  const watch = async () => {
    for (let pauseMs = firstMs; trouble === undefined; pauseMs = EVERY_MS) {
      await sleep(pauseMs, undefined, { signal, ref: false });
      trouble = await stoppedBecause(hypervisor, domain, state);
    }
  };
  // It ends with the wait.
  watch().catch(() => undefined);
  return () => trouble;
}
