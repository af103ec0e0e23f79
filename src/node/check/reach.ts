// The row of `check node` about what QEMU must be able to reach, looked at as the account that libvirt runs
// it as.
import { dirname } from 'node:path';
import { imageFiles } from '../../image/chain.ts';
import type { NodeConfig } from '../../node-file/read.ts';
import { type Check, type Finding, failed, ok, skipped } from '../../util/check.ts';
import type { Run } from '../../util/processes/run.ts';

interface Site {
  config: () => NodeConfig;
  run: Run;
}

/** Looks at each directory on the way, and prints the first of each path that it cannot go through. */
const LOOK = 'for path; do [ -x "$path" ] || [ ! -e "$path" ] || printf "%s\\n" "$path"; done';

export const reachRow: Check<Site> = {
  name: 'reach',
  about: 'Can QEMU get to images and to the state directory, as the account that libvirt runs it as?',
  needs: ['node-file', 'hypervisor'],
  async check({ config, run }) {
    const { hypervisor, images, state } = config();
    const account = await qemuAccount(hypervisor.uri, run);
    if (account === undefined || account.uid === '0')
      return ok('QEMU is root here, or libvirt does not say who it is');
    if (process.geteuid?.() !== 0) return skipped(`only root can look as uid ${account.uid}`);
    const findings: Finding[] = [];
    const look = async (what: string, files: readonly string[]) => {
      const directories = [...new Set(files.flatMap((file) => directoriesAbove(file)))];
      const lookWith = (groups: string) =>
        run(
          'setpriv',
          [
            `--reuid=${account.uid}`,
            `--regid=${account.gid}`,
            groups,
            '/bin/sh',
            '-c',
            LOOK,
            'look',
            ...directories,
          ],
          { timeoutMs: 10_000 },
        );
      // An account that has no name has no groups either.
      const named = await lookWith('--init-groups');
      const result = named.exitCode === 0 ? named : await lookWith('--clear-groups');
      const closed = result.stdout.split('\n')[0] ?? '';
      if (closed !== '')
        findings.push(
          failed(
            `${what}: QEMU (uid ${account.uid}) cannot get through ${closed}`,
            `chmod o+x ${closed}, or keep it elsewhere`,
          ),
        );
    };
    for (const image of images.values())
      await look(`image ${image.name}`, [
        ...filesOf(image),
        ...(image.boot.type === 'kernel' ? [image.boot.kernel, image.boot.initrd] : []),
      ]);
    await look('state', [`${state}/jobs`]);
    return findings.length > 0
      ? findings
      : ok(`uid ${account.uid} gets to ${images.size} images and ${state}`);
  },
};

/** Who QEMU is: the label that libvirt gives to processes of guests. */
async function qemuAccount(uri: string, run: Run): Promise<{ uid: string; gid: string } | undefined> {
  const { exitCode, stdout } = await run('virsh', ['--quiet', '--connect', uri, 'capabilities'], {
    timeoutMs: 10_000,
  });
  if (exitCode !== 0) return undefined;
  const model = /<secmodel>\s*<model>dac<\/model>([\s\S]*?)<\/secmodel>/.exec(stdout)?.[1] ?? '';
  const [, uid, gid] = /<baselabel type='(?:kvm|qemu)'>\+(\d+):\+(\d+)<\/baselabel>/.exec(model) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

function filesOf(image: Parameters<typeof imageFiles>[0]): string[] {
  try {
    return imageFiles(image);
  } catch {
    return [image.path]; // the row `images` says why
  }
}

/** From the root on; those that are not there yet are nobody's to go through. */
function directoriesAbove(file: string): string[] {
  const above = dirname(file);
  return above === '/' ? ['/'] : [...directoriesAbove(above), above];
}
