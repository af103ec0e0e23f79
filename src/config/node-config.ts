// The node file as the program sees it: types and built-in defaults.

interface KernelBoot {
  type: 'kernel';
  /** Absolute paths on the node. */
  kernel: string;
  initrd: string;
  commandLine: string;
}

/** `disk`: the image's own boot loader. */
export type ImageBoot = { type: 'disk' } | KernelBoot;

export interface ImageConfig {
  name: string;
  /** Absolute path of the template image. */
  path: string;
  format: 'qcow2';
  contextualisation: 'prepared';
  boot: ImageBoot;
  vcpus: { default: number; maximum: number };
  memory: { defaultBytes: number; maximumBytes: number };
}

interface ShareConfig {
  type: 'nfs';
  /** `host:/export`, as the guest sees it. */
  server: string;
  /** Where the share is on the node, and in the guest. */
  path: string;
  /** NFS version, for `vers=`. */
  version: '4.0' | '4.1' | '4.2';
  port: number;
  /** Further mount options, each of `a-z 0-9 _ = . : / -`. */
  options: string[];
}

/** A checked node file: every default filled in, sizes in bytes, durations in milliseconds. */
export interface NodeConfig {
  /** Queues whose jobs run in guests. */
  queues: string[];
  /** Directory for job records and disks. */
  state: string;
  /** Directory for logs. */
  log: string;
  hypervisor: { type: 'auto' | 'kvm' | 'qemu'; uri: string };
  images: ReadonlyMap<string, ImageConfig>;
  /** Always a key of `images`. */
  defaultImage: string;
  network: { type: 'user'; addressing: 'dhcp' | 'static' };
  share: ShareConfig;
  /** Below `share.path`: the guest writes into it, the node reads. */
  readyDirectory: string;
  disk: { freeFloorBytes: number };
  timeouts: {
    readyMs: number;
    virshMs: number;
    sshConnectMs: number;
    epilogueMs: number;
    reconnectMs: number;
  };
}

/** What is assumed for a key that the node file leaves out, written as in the file. Two more defaults depend
 * on the file: `default_image` is the only image, `ready_directory` is `<share.path>/.vmbatch/ready`. */
export const BUILT_IN_DEFAULTS = {
  state: '/var/lib/vmbatch',
  log: '/var/log/vmbatch',
  'hypervisor.type': 'auto',
  'hypervisor.uri': 'qemu:///system',
  'images.*.format': 'qcow2',
  'images.*.contextualisation': 'prepared',
  'images.*.boot': 'disk',
  'images.*.vcpus.default': 1,
  'images.*.vcpus.maximum': 8,
  'images.*.memory.default': '512 MiB',
  'images.*.memory.maximum': '2 GiB',
  'network.type': 'user',
  'network.addressing': 'dhcp',
  'share.version': '4.1',
  'share.port': 2049,
  'disk.free_floor': '1 GiB',
  'timeouts.ready': '280 s',
  'timeouts.virsh': '60 s',
  'timeouts.ssh_connect': '30 s',
  'timeouts.epilogue': '60 s',
  'timeouts.reconnect': '300 s',
} as const;

/** Below `share.path`, when `ready_directory` is left out. */
export const DEFAULT_READY_DIRECTORY = '.vmbatch/ready';
