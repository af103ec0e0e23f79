// What the admins of the one-node site have written: the node file and arc.conf.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Standin } from '../standin/start.ts';

export const QUEUE = 'vmalice';

/** The node file. */
export function nodeConfiguration(
  paths: { share: string; state: string; log: string },
  image: string,
  libvirtUri: string,
  nfsPort: number,
  addressing: string,
): Record<string, unknown> {
  const manifest = JSON.parse(readFileSync(join(image, 'manifest.json'), 'utf8')) as {
    kernelParameters: string;
  };
  return {
    queues: [QUEUE],
    state: paths.state,
    log: paths.log,
    hypervisor: { type: 'auto', uri: libvirtUri },
    images: {
      demo: {
        path: join(image, 'template.qcow2'),
        boot: {
          kernel: join(image, 'vmlinuz'),
          initrd: join(image, 'initrd.img'),
          command_line: manifest.kernelParameters,
        },
        vcpus: { default: 1, maximum: 4 },
        memory: { default: '256 MiB', maximum: '1 GiB' },
      },
    },
    network: { type: 'user', addressing },
    share: { type: 'nfs', server: '10.0.2.2:/share', path: paths.share, port: nfsPort },
  };
}

/** The part of arc.conf that a backend reads. */
export function arcConfiguration(control: string, standin: Pick<Standin, 'binDir' | 'serverLogDir'>): string {
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
image=demo
`;
}
