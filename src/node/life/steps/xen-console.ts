// The console of para-virtualised guests on Xen as a file. libvirt writes no such file there: it gives them a
// terminal of the node, /dev/pts/N, on which xenconsoled puts what they say.
import { setTimeout as sleep } from 'node:timers/promises';
import type { DomainDescription } from '../../../hypervisor/domain-xml.ts';
import type { Hypervisor } from '../../../hypervisor/port.ts';
import { startInBackground } from '../../background.ts';

/** The terminal is there a moment after the domain. */
const LOOKS = 20;
const PAUSE_MS = 100;
/** A guest may write without end: reads of at most 4 KiB, and so at most 256 MiB. */
const MAX_READS = 65_536;

/** The terminal of a domain's console, from its XML; undefined: it has none. */
export function consoleTerminal(xml: string): string | undefined {
  const device = /<console\b[^>]*\btype=['"]pty['"][\s\S]*?<\/console>/.exec(xml)?.[0] ?? '';
  const found =
    /\btty=['"](\/dev\/pts\/\d+)['"]/.exec(device) ?? /<source path=['"](\/dev\/pts\/\d+)['"]/.exec(device);
  return found?.[1];
}

/** Starts what copies the console into the file, until the terminal goes with its domain. A guest whose
 * console nobody finds is a guest all the same.
 * @param start for tests */
export async function keepXenConsole(
  { type, xenMode, name }: Pick<DomainDescription, 'type' | 'xenMode' | 'name'>,
  hypervisor: Pick<Hypervisor, 'describe'>,
  file: string,
  start: typeof startInBackground = startInBackground,
): Promise<void> {
  if (type !== 'xen' || xenMode === 'hvm') return;
  for (let look = 0; look < LOOKS; look++) {
    const terminal = consoleTerminal((await hypervisor.describe(name).catch(() => undefined)) ?? '');
    if (terminal !== undefined) {
      const copy = `exec dd bs=4096 count=${MAX_READS} <"$1" >>"$2" 2>/dev/null`;
      return start('sh', ['-c', copy, 'sh', terminal, file]);
    }
    await sleep(PAUSE_MS);
  }
}
