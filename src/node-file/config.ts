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

/** Domain types of libvirt that vmbatch knows. */
export const HYPERVISOR_TYPES = ['kvm', 'qemu', 'xen'] as const;
type HypervisorType = (typeof HYPERVISOR_TYPES)[number];

/** Who in the guest reads the context disk: our guest service alone (in the image, or in a layer that
 * `image prepare` made), CernVM's start-up scripts, or cloud-init; the latter two start our guest service
 * from the disk. */
export const CONTEXTUALISATIONS = ['prepared', 'cernvm', 'cloud-init'] as const;
export type Contextualisation = (typeof CONTEXTUALISATIONS)[number];
/** Kinds of keys for SSH between node and guest. */
export const KEY_TYPES = ['ed25519', 'ecdsa', 'rsa'] as const;
export type KeyType = (typeof KEY_TYPES)[number];

export interface ImageConfig {
  name: string;
  /** Absolute path of the template image. */
  path: string;
  format: 'qcow2' | 'raw';
  /** Lower-case hexadecimal SHA-256 of the whole file, which `image verify` and the start of a guest
   * compare. */
  sha256: string | undefined;
  /** What the image stands on, with the SHA-256 of each file: they belong to it. */
  backing: readonly { path: string; sha256: string }[] | undefined;
  /** Whether `image verify` demands the signature that CernVM images carry. */
  signed: boolean;
  contextualisation: Contextualisation;
  /** What kind of keys the SSH server of the image knows. */
  sshKeys: KeyType;
  /** Domain types that the image boots with. */
  hypervisors: HypervisorType[];
  boot: ImageBoot;
  vcpus: { default: number; maximum: number };
  memory: { defaultBytes: number; maximumBytes: number };
  /** How much a job's overlay is expected to grow; what the free-space check reserves for it. */
  diskBytes: number;
  /** Queues and Unix groups (of the job's user) that may use the image; undefined: all. */
  queues: string[] | undefined;
  groups: string[] | undefined;
}

/** A file system that the guest mounts at the path where the node has it. */
export type MountConfig = {
  /** Where it is on the node, and in the guest. */
  path: string;
  /** Further mount options, each of `a-z 0-9 _ = . : / -`. */
  options: string[];
} & (
  | {
      type: 'nfs';
      /** `host:/export`, as the guest sees it. */
      server: string;
      /** NFS version, for `vers=`. */
      version: '3' | '4.0' | '4.1' | '4.2';
      port: number;
    }
  /** The node's own directory `path`, passed into the guest by the hypervisor. */
  | { type: '9p' | 'virtiofs' }
);

export interface PoolEntry {
  /** IPv4 address of the guest. */
  address: string;
  /** IPv6 address besides, without a prefix length. */
  address6: string | undefined;
  /** Undefined: derived from the job, as for DHCP. */
  mac: string | undefined;
  /** Undefined: derived from the job. */
  hostname: string | undefined;
}

interface StaticNetwork {
  prefixLength: number;
  gateway: string | undefined;
  prefixLength6: number;
  gateway6: string | undefined;
  pool: PoolEntry[];
}

export interface NetworkConfig {
  /** `user`: QEMU's user network, with one forwarded port for SSH; `bridge`: a bridge of the node; `libvirt`:
   * a network of libvirt's. */
  type: 'user' | 'bridge' | 'libvirt';
  addressing: 'dhcp' | 'static';
  /** The bridge or libvirt network; undefined for `user`. */
  name: string | undefined;
  /** With `static` and a type other than `user`. */
  static: StaticNetwork | undefined;
  /** Name servers and search domain that the guest is told, on top of what DHCP says. */
  dns: string[];
  domain: string | undefined;
  /** libvirt network filter; `auto`: clean-traffic where the connection and the network type support it. */
  filter: 'auto' | 'off' | (string & {});
  /** Where locks of addresses and MACs are; on the share if several nodes use one pool or one network. */
  lockDirectory: string;
}

/** A checked node file: every default filled in, sizes in bytes, durations in milliseconds. */
export interface NodeConfig {
  /** Queues whose jobs run in guests. */
  queues: string[];
  /** When the prologue returns: `ready`: the guest is up; `started`: its domain runs, and the job starter
   * waits. */
  prologueMode: 'ready' | 'started';
  /** How many guests may boot at a time; `auto`: as many as the node has processors; 0: no limit. */
  starts: number | 'auto';
  /** Memory that stays free on the node in any case, whatever guests start; 0: no check. */
  memoryFloorBytes: number;
  /** Load (of one minute, per processor) from which on no guest starts; undefined: no limit. */
  maxLoad: number | undefined;
  /** What takes a node out of service that fails one job after another. */
  guard: {
    /** So many faults of the node in a row, each of another job; 0: never. */
    faults: number;
    /** `manual`: an admin brings it back; `self-test`: so does a guest that starts. */
    comeBack: 'manual' | 'self-test';
    /** Milliseconds between self-tests. */
    selfTestMs: number;
    /** Account of the self-test's guest. */
    user: string;
    /** TORQUE's name of the node; undefined: what TORQUE tells the prologue, else the host name. */
    node: string | undefined;
    /** Directory of TORQUE's pbsnodes; undefined: PATH. */
    pbsBinPath: string | undefined;
  };
  /** Directory for job records and disks. */
  state: string;
  /** Directory for logs. */
  log: string;
  hypervisor: {
    type: 'auto' | HypervisorType;
    uri: string;
    /** libvirt's machine type; undefined: `pc` for kvm and qemu, `xenpv`/`xenfv` for xen. */
    machine: string | undefined;
    /** `host-passthrough`, `host-model`, `maximum` or a CPU model's name; undefined: what suits the type. */
    cpu: string | undefined;
    /** How Xen runs guests. */
    xenMode: 'pv' | 'pvh' | 'hvm';
    /** Directory of the admin's own `domain-TYPE.xml.ejs`, which take the place of ours. */
    templates: string | undefined;
    /** Whether virtual CPUs are pinned to the CPUs that TORQUE gave the job, where it tells (cpuset). */
    pinning: boolean;
    /** Whether the guest's memory is bound to the NUMA nodes of those CPUs. */
    numa: boolean;
    /** Size of the huge pages that back guest memory; undefined: none. */
    hugepageBytes: number | undefined;
    /** libvirt's `<cputune><shares>` and `<blkiotune><weight>`; undefined: the hypervisor's default. */
    cpuShares: number | undefined;
    ioWeight: number | undefined;
    /** cgroup partition of the guests, such as /machine/vmbatch. */
    partition: string | undefined;
  };
  images: ReadonlyMap<string, ImageConfig>;
  /** Always a key of `images`. */
  defaultImage: string;
  /** CA directory (hashed or plain `*.pem`, `*.0`, `*.crt`) and the name in the subject of who signs CernVM
   * images. */
  signatures: { caDirectory: string; signer: string };
  network: NetworkConfig;
  /** The shared file system with the session directories. */
  share: MountConfig;
  /** Further file systems: runtime environments, control directory, software. */
  mounts: MountConfig[];
  /** How a guest says that it is ready: a file on the share, an answer over SSH, or QEMU's guest agent. */
  readyChannel: 'file' | 'ssh' | 'agent';
  /** Below `share.path`: the guest writes into it, the node reads. */
  readyDirectory: string;
  cvmfs: {
    /** Mounted in every guest that can, beside what the job asks for. */
    repositories: string[];
    /** `http://squid:3128;DIRECT`; undefined: the guest's own. */
    proxy: string | undefined;
    server: string | undefined;
    /** Tag of the CernVM operating system repository. */
    tag: string | undefined;
    /** CernVM's `organisation`. */
    organisation: string | undefined;
  };
  time: { zone: string | undefined; ntp: string[] };
  context: {
    /** Directory of the admin's own user-data, `*.ejs`; undefined: none. */
    templates: string | undefined;
    /** Site scripts that CernVM calls with `start` and `stop` around its own contextualisation. */
    prolog: string | undefined;
    epilog: string | undefined;
    /** Scripts that run as root of the guest before and after the job. */
    beforeJob: string | undefined;
    afterJob: string | undefined;
  };
  disk: {
    freeFloorBytes: number;
    /** How long a start waits for room before it goes elsewhere. */
    waitMs: number;
    /** `maximumBytes` 0: jobs may not ask for a scratch disk. */
    scratch: { defaultBytes: number; maximumBytes: number; path: string };
    /** The CernVM-FS cache disk that outlives guests; undefined: none. */
    cacheBytes: number | undefined;
  };
  /** What Machine/Job Features say of this node beyond what is known anyway. */
  features: { hs06: number | undefined };
  debug: {
    /** For how long the guest of a failed job is kept; 0: not at all. */
    keepOnFailureMs: number;
    /** How many consoles of failed jobs are kept. */
    consoles: number;
  };
  timeouts: {
    readyMs: number;
    virshMs: number;
    sshConnectMs: number;
    epilogueMs: number;
    reconnectMs: number;
    /** Silence of the guest during the job after which it counts as hanging. */
    heartbeatMs: number;
    /** Any look at the share; more means that it hangs. */
    shareMs: number;
  };
}

/** What is assumed for a key that the node file leaves out, written as in the file. Some defaults depend on
 * the file: `default_image` is the only image, `ready_directory` is `<share.path>/.vmbatch/ready`,
 * `network.lock_directory` is `<state>/leases`, `hypervisor.uri` goes by `hypervisor.type`. */
export const BUILT_IN_DEFAULTS = {
  prologue_mode: 'ready',
  starts: 'auto',
  'memory.free_floor': '64 MiB',
  max_load: 'off',
  'guard.faults': 3,
  'guard.return': 'manual',
  'guard.self_test_every': '15 min',
  'guard.self_test_user': 'nobody',
  state: '/var/lib/vmbatch',
  log: '/var/log/vmbatch',
  'hypervisor.type': 'auto',
  'hypervisor.uri': 'qemu:///system',
  'hypervisor.uri (xen)': 'xen:///system',
  'hypervisor.xen_mode': 'pvh',
  'hypervisor.pinning': true,
  'hypervisor.numa': false,
  'images.*.format': 'qcow2',
  'images.*.contextualisation': 'prepared',
  'images.*.signed': false,
  'images.*.hypervisors': ['kvm', 'qemu'],
  'images.*.boot': 'disk',
  'images.*.vcpus.default': 1,
  'images.*.vcpus.maximum': 8,
  'images.*.memory.default': '512 MiB',
  'images.*.memory.maximum': '2 GiB',
  'images.*.disk': '0 MiB',
  'signatures.ca_directory': '/etc/grid-security/certificates',
  'signatures.signer': 'cvm-sign01.cern.ch',
  'network.type': 'user',
  'network.addressing': 'dhcp',
  'network.filter': 'auto',
  'network.prefix_length6': 64,
  'share.version': '4.1',
  'share.port': 2049,
  ready_channel: 'file',
  'disk.free_floor': '1 GiB',
  'disk.wait': '30 s',
  'disk.scratch.default': '0 MiB',
  'disk.scratch.maximum': '0 MiB',
  'disk.scratch.path': '/scratch',
  'debug.keep_on_failure': 'off',
  'debug.consoles': 20,
  'timeouts.ready': '280 s',
  'timeouts.virsh': '60 s',
  'timeouts.ssh_connect': '30 s',
  'timeouts.epilogue': '60 s',
  'timeouts.reconnect': '300 s',
  'timeouts.heartbeat': '120 s',
  'timeouts.share': '20 s',
} as const;

/** Below `share.path`, when `ready_directory` is left out. */
export const DEFAULT_READY_DIRECTORY = '.vmbatch/ready';
