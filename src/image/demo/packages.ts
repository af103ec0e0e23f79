// The Debian packages that the demo guest is made of: fetched by apt without being installed, and unpacked.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import type { Run } from '../../util/processes/run.ts';
import { runTool } from './tools.ts';

/** The package whose dependency is the newest cloud kernel: small, and with virtio and NFS. */
export const KERNEL_METAPACKAGE = 'linux-image-cloud-amd64';

/** Programs, then the libraries that they are linked with. */
export const GUEST_PACKAGES: readonly string[] = [
  'bash',
  'busybox-static',
  'dropbear-bin',
  'e2fsprogs',
  'time',
  'libblkid1',
  'libc6',
  'libcom-err2',
  'libcrypt1',
  'libext2fs2',
  'libgmp10',
  'libtinfo6',
  'libtomcrypt1',
  'libtommath1',
  'libuuid1',
  'zlib1g',
];

/** One package as it went into an image. */
export interface ImagePackage {
  name: string;
  version: string;
  /** Of the `.deb` file, lower-case hexadecimal. */
  sha256: string;
}

/** Fetches the guest's packages and the newest kernel into `directory`. apt's lists may be old or, on a fresh
 * machine, absent: after a failure they are updated once and everything is tried again.
 * @param progress told when that happens
 * @returns the name of the kernel package
 * @throws VmbatchError `node` if apt knows no kernel, or a package cannot be fetched */
export async function downloadPackages(
  run: Run,
  directory: string,
  progress: (line: string) => void,
): Promise<string> {
  const attempt = async (): Promise<string> => {
    const kernelPackage = await findKernelPackage(run);
    progress(`fetching ${GUEST_PACKAGES.length + 1} packages, kernel ${kernelRelease(kernelPackage)}`);
    mkdirSync(directory);
    // As root: apt's own user may not write to our directory.
    const args = ['download', '--quiet', '-o', 'APT::Sandbox::User=root', ...GUEST_PACKAGES, kernelPackage];
    await runTool(run, 'apt-get', args, { cwd: directory, timeoutMs: 600_000 });
    return kernelPackage;
  };
  try {
    return await attempt();
  } catch (error) {
    if (error instanceof VmbatchError && error.code === 'tool-missing') throw error;
  }
  progress("updating apt's lists");
  // Its result does not matter: some other list may be broken, or another apt may be updating them now.
  await run('apt-get', ['update', '--quiet'], { timeoutMs: 600_000 });
  rmSync(directory, { recursive: true, force: true });
  return await attempt();
}

/** `linux-image-6.1.0-56-cloud-amd64` → `6.1.0-56-cloud-amd64`, as `uname -r` says in the guest. */
export function kernelRelease(kernelPackage: string): string {
  return kernelPackage.replace('linux-image-', '');
}

/** The name of the kernel package that apt would install now: `linux-image-6.1.0-56-cloud-amd64`.
 * @throws VmbatchError `node` if apt knows none. */
async function findKernelPackage(run: Run): Promise<string> {
  const result = await runTool(run, 'apt-cache', ['depends', KERNEL_METAPACKAGE]);
  const name = /^\s*Depends: (linux-image-\S+)$/m.exec(result.stdout)?.[1];
  if (name !== undefined) return name;
  throw new VmbatchError({
    fault: 'node',
    code: 'package-unknown',
    message: `apt does not know which kernel ${KERNEL_METAPACKAGE} stands for`,
    hint: 'the demo guest is built from the packages of Debian 12 for amd64; see /etc/apt/sources.list',
  });
}

/** Unpacks what `downloadPackages` left in `directory` below `target`.
 * @throws VmbatchError `node` if one is missing or damaged. */
export async function unpackPackages(
  run: Run,
  names: readonly string[],
  directory: string,
  target: string,
): Promise<ImagePackage[]> {
  mkdirSync(target);
  const packages: ImagePackage[] = [];
  for (const name of [...names].sort()) {
    const file = readdirSync(directory).find((candidate) => candidate.startsWith(`${name}_`));
    if (file === undefined) {
      throw new VmbatchError({
        fault: 'node',
        code: 'package-unknown',
        message: `apt-get download left no file for the package ${name}`,
      });
    }
    const path = join(directory, file);
    await runTool(run, 'dpkg-deb', ['--extract', path, target]);
    packages.push({
      name,
      // apt writes the epoch's colon as %3a into the file name.
      version: decodeURIComponent(file.split('_')[1] ?? ''),
      sha256: createHash('sha256').update(readFileSync(path)).digest('hex'),
    });
  }
  return packages;
}
