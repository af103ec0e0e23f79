// The node file that is assumed where there is none, by commands that only show something: the demo guest on
// this machine.
import { type NodeConfig, parseNodeConfig } from './read.ts';

const DEMO = `
queues: [vmalice]
images:
  demo:
    path: /var/cache/vmbatch/demo-image/template.qcow2
    boot:
      kernel: /var/cache/vmbatch/demo-image/vmlinuz
      initrd: /var/cache/vmbatch/demo-image/initrd.img
      command_line: "console=ttyS0 quiet"
    vcpus: { default: 1, maximum: 4 }
    memory: { default: 256 MiB, maximum: 2 GiB }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
disk: { scratch: { maximum: 20 GiB } }
`;

/** Queue `vmalice`, image `demo`. */
export function demoConfig(): NodeConfig {
  return parseNodeConfig(DEMO, 'the built-in demo configuration');
}
