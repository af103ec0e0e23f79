// What the admins of the one-node site have written: the node file and arc.conf.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Standin } from '../standin/start.ts';
import { FAKE_IMAGE } from './fake-hypervisor.ts';
import type { GuestNetwork } from './network.ts';

export const QUEUE = 'vmalice';

/** The node file: with the demo guest's image, or the fake guests', or both (the fake one is the default
 * then). */
export function nodeConfiguration(
  paths: { share: string; state: string; log: string },
  site: {
    queues: readonly string[];
    demo: string | undefined;
    fake: string | undefined;
    libvirtUri: string;
    nfsPort: number;
    addressing: string;
    network?: GuestNetwork | undefined;
  },
): Record<string, unknown> {
  const limits = { vcpus: { default: 1, maximum: 4 }, memory: { default: '256 MiB', maximum: '1 GiB' } };
  const fake =
    site.fake === undefined
      ? undefined
      : {
          path: site.fake,
          vcpus: { default: 1, maximum: 16 },
          memory: { default: '256 MiB', maximum: '64 GiB' },
        };
  return {
    queues: site.queues,
    state: paths.state,
    log: paths.log,
    hypervisor: { type: 'auto', uri: site.libvirtUri },
    images: {
      ...(site.demo === undefined ? {} : { demo: { ...demoImage(site.demo), ...limits } }),
      ...(fake === undefined ? {} : { [FAKE_IMAGE]: fake }),
    },
    default_image: fake === undefined ? 'demo' : FAKE_IMAGE,
    // Fake guests take none of the memory that they ask for.
    ...(fake === undefined ? {} : { memory: { free_floor: '0 MiB' } }),
    // Tests that let a node fail want it to stay.
    guard: { faults: 0 },
    network: site.network?.config ?? { type: 'user', addressing: site.addressing },
    share: {
      type: 'nfs',
      server: `${site.network?.host ?? '10.0.2.2'}:/share`,
      path: paths.share,
      port: site.nfsPort,
    },
  };
}

function demoImage(directory: string): Record<string, unknown> {
  const manifest = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')) as {
    kernelParameters: string;
  };
  return {
    path: join(directory, 'template.qcow2'),
    boot: {
      kernel: join(directory, 'vmlinuz'),
      initrd: join(directory, 'initrd.img'),
      command_line: manifest.kernelParameters,
    },
  };
}

/** The part of arc.conf that a backend reads. */
export function arcConfiguration(
  control: string,
  standin: Pick<Standin, 'binDir' | 'serverLogDir'>,
  image: string,
): string {
  return `[common]
hostname=localhost

[lrms]
lrms=vmbatch ${QUEUE}
defaultqueue=${QUEUE}
pbs_bin_path=${standin.binDir}
pbs_log_path=${standin.serverLogDir}

[arex]
controldir=${control}

[queue:${QUEUE}]

[custom:vmbatch]
image=${image}
`;
}

/** For all users to read, whatever root's umask is. */
export function writePublic(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o644);
}
