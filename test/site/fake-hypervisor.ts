// Fake guests for a site: a `virsh` for the hooks to find first, and an image that no machine ever boots.
// Everything else of a job's way is as with real ones.
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeRun } from '../../src/util/processes/run.ts';
import { shellQuote } from '../../src/util/quote.ts';
import { runSheltered } from './sheltered.ts';

/** Domains that bring no kernel are fake guests. */
export const FAKE_IMAGE = 'fake';

export interface FakeHypervisor {
  /** The program, and the directory to be put first on the hooks' PATH. */
  virsh: string;
  binDir: string;
  /** The image's file. */
  image: string;
}

/** Puts everything below `directory`, the folder `fake` of the site's directory. While it has a file `hold`,
 * guests that are started do not become ready.
 * @param dist has the guest service.
 * @param realVirsh what domains that do bring a kernel are left to.
 * @throws Error if the image cannot be made. */
export async function installFakeHypervisor(
  directory: string,
  dist: string,
  realVirsh: string | undefined,
): Promise<FakeHypervisor> {
  const lib = join(directory, 'lib');
  const binDir = join(directory, 'bin');
  for (const path of [directory, lib, binDir]) {
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o755);
  }
  mkdirSync(join(directory, 'guests'), { mode: 0o700 });
  const root = join(import.meta.dirname, '../..');
  copyFileSync(join(root, 'build/site/fake-virsh.cjs'), join(lib, 'fake-virsh.cjs'));
  copyFileSync(join(root, 'test/site/fake-guest/guest.sh'), join(lib, 'guest.sh'));
  copyFileSync(join(dist, 'share/guest/vmbatch-guest'), join(lib, 'vmbatch-guest'));
  const words = [process.execPath, join(lib, 'fake-virsh.cjs'), directory, realVirsh ?? '-'];
  const virsh = join(binDir, 'virsh');
  writeFileSync(
    virsh,
    `#!/bin/sh\n# Starts processes in place of domains: for tests.\nunset NODE_EXTRA_CA_CERTS\nexec ${words.map(shellQuote).join(' ')} "$@"\n`,
  );
  chmodSync(virsh, 0o755);
  const image = join(directory, 'image.qcow2');
  const made = await runSheltered('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
  if (made.exitCode !== 0) throw new Error(`${describeRun(made)}: ${made.stderr.trim()}`);
  return { virsh, binDir, image };
}
