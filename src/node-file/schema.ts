// The schema of the node file: which keys there are, what each may hold, and what is assumed without it.
import * as z from 'zod';
import { formatSize } from '../util/units.ts';
import {
  BUILT_IN_DEFAULTS,
  CONTEXTUALISATIONS,
  DEFAULT_READY_DIRECTORY,
  HYPERVISOR_TYPES,
  type ImageBoot,
  type ImageConfig,
  KEY_TYPES,
  type NodeConfig,
} from './config.ts';
import { mountSchema, networkSchema, toMountConfig, toNetworkConfig } from './network-schema.ts';
import {
  absolutePath,
  duration,
  durationOrOff,
  durationOrZero,
  flag,
  guestPath,
  hasControlCharacters,
  hostName,
  hostOrAddress,
  loadLimit,
  oneOf,
  queueName,
  repositoryName,
  size,
  startsLimit,
  text,
  wholeNumber,
  word,
} from './values.ts';

const MAX_VCPUS = 512;
const LEAST_MEMORY = 64 * 1024 ** 2;
/** ext4 on less is not worth the name of a cache. */
const LEAST_DISK = 64 * 1024 ** 2;

const kernelBoot = z.strictObject({
  kernel: absolutePath(),
  initrd: absolutePath(),
  command_line: text(
    'text on one line, at most 1024 characters',
    (found) => !hasControlCharacters(found),
  ).prefault(''),
});

/** `disk`, or a mapping with a kernel. Not a zod union: that would hide which key of the mapping is wrong. */
const boot = z.unknown().transform((found, context): ImageBoot => {
  if (found === 'disk') return { type: 'disk' };
  if (typeof found !== 'object' || found === null || Array.isArray(found)) {
    context.addIssue({ code: 'custom', message: 'disk, or a mapping with kernel, initrd, command_line' });
    return z.NEVER;
  }
  const parsed = kernelBoot.safeParse(found);
  if (!parsed.success) {
    for (const { path, ...issue } of parsed.error.issues) context.addIssue({ ...issue, path: [...path] });
    return z.NEVER;
  }
  const { kernel, initrd, command_line } = parsed.data;
  return { type: 'kernel', kernel, initrd, commandLine: command_line };
});

/** Refuses a default above its maximum; zod calls it once both are values. */
function checkLimits(show: (amount: number) => string) {
  return (limits: { default: number; maximum: number }, context: z.core.$RefinementCtx<typeof limits>) => {
    if (limits.default <= limits.maximum) return;
    context.addIssue({
      code: 'custom',
      params: { whole: true },
      message: `the default, ${show(limits.default)}, is more than the maximum, ${show(limits.maximum)}`,
    });
  };
}

const sha256 = () => text('a SHA-256 of 64 hexadecimal digits', (found) => /^[0-9a-f]{64}$/i.test(found));

const imageSchema = z.strictObject({
  path: absolutePath(),
  format: oneOf('qcow2', 'raw').prefault(BUILT_IN_DEFAULTS['images.*.format']),
  sha256: sha256().optional(),
  backing: z.array(z.strictObject({ path: absolutePath(), sha256: sha256() })).optional(),
  signed: flag().prefault(BUILT_IN_DEFAULTS['images.*.signed']),
  contextualisation: oneOf(...CONTEXTUALISATIONS).prefault(BUILT_IN_DEFAULTS['images.*.contextualisation']),
  ssh_keys: oneOf(...KEY_TYPES).optional(),
  hypervisors: z
    .array(oneOf(...HYPERVISOR_TYPES))
    .min(1)
    .prefault([...BUILT_IN_DEFAULTS['images.*.hypervisors']]),
  boot: boot.prefault(BUILT_IN_DEFAULTS['images.*.boot']),
  vcpus: z
    .strictObject({
      default: wholeNumber(1, MAX_VCPUS).prefault(BUILT_IN_DEFAULTS['images.*.vcpus.default']),
      maximum: wholeNumber(1, MAX_VCPUS).prefault(BUILT_IN_DEFAULTS['images.*.vcpus.maximum']),
    })
    .superRefine(checkLimits(String))
    .prefault({}),
  memory: z
    .strictObject({
      default: size(LEAST_MEMORY).prefault(BUILT_IN_DEFAULTS['images.*.memory.default']),
      maximum: size(LEAST_MEMORY).prefault(BUILT_IN_DEFAULTS['images.*.memory.maximum']),
    })
    .superRefine(checkLimits(formatSize))
    .prefault({}),
  disk: size(0).prefault(BUILT_IN_DEFAULTS['images.*.disk']),
  queues: z.array(queueName()).min(1).optional(),
  groups: z
    .array(
      text(
        'the name of a group',
        (found) => found !== '' && !/[:,]/.test(found) && !hasControlCharacters(found),
      ),
    )
    .min(1)
    .optional(),
});

const timeout = (name: TimeoutName) => duration().prefault(BUILT_IN_DEFAULTS[`timeouts.${name}`]);
type TimeoutName = 'ready' | 'virsh' | 'ssh_connect' | 'epilogue' | 'reconnect' | 'heartbeat' | 'share';

/** The node file's mapping. Images, and what one key demands of another, are checked by name beside it. */
const nodeFile = z.strictObject({
  queues: z.array(queueName()).min(1),
  prologue_mode: oneOf('ready', 'started').prefault(BUILT_IN_DEFAULTS.prologue_mode),
  starts: startsLimit().prefault(BUILT_IN_DEFAULTS.starts),
  memory: z
    .strictObject({ free_floor: size(0).prefault(BUILT_IN_DEFAULTS['memory.free_floor']) })
    .prefault({}),
  max_load: loadLimit().prefault(BUILT_IN_DEFAULTS.max_load),
  guard: z
    .strictObject({
      faults: wholeNumber(0, 1000).prefault(BUILT_IN_DEFAULTS['guard.faults']),
      return: oneOf('manual', 'self-test').prefault(BUILT_IN_DEFAULTS['guard.return']),
      self_test_every: duration().prefault(BUILT_IN_DEFAULTS['guard.self_test_every']),
      self_test_user: word('an account of this node').prefault(BUILT_IN_DEFAULTS['guard.self_test_user']),
      node: hostName().optional(),
      pbs_bin_path: absolutePath().optional(),
    })
    .prefault({}),
  state: absolutePath().prefault(BUILT_IN_DEFAULTS.state),
  log: absolutePath().prefault(BUILT_IN_DEFAULTS.log),
  hypervisor: z
    .strictObject({
      type: oneOf('auto', ...HYPERVISOR_TYPES).prefault(BUILT_IN_DEFAULTS['hypervisor.type']),
      uri: text('a QEMU or Xen connection of libvirt, such as "qemu:///system"', (found) =>
        /^(qemu|xen)(\+[a-z0-9]+)?:\/\/[!-~]*$/.test(found),
      ).optional(),
      machine: word('a machine type of libvirt, such as q35').optional(),
      cpu: word('host-passthrough, host-model, maximum, or the name of a CPU model').optional(),
      xen_mode: oneOf('pv', 'pvh', 'hvm').prefault(BUILT_IN_DEFAULTS['hypervisor.xen_mode']),
      templates: absolutePath().optional(),
      pinning: flag().prefault(BUILT_IN_DEFAULTS['hypervisor.pinning']),
      numa: flag().prefault(BUILT_IN_DEFAULTS['hypervisor.numa']),
      hugepages: size(4 * 1024).optional(),
      cpu_shares: wholeNumber(2, 262_144).optional(),
      io_weight: wholeNumber(1, 10_000).optional(),
      partition: absolutePath().optional(),
    })
    .prefault({}),
  images: z.record(z.string(), imageSchema),
  default_image: z.unknown().optional(),
  signatures: z
    .strictObject({
      ca_directory: absolutePath().prefault(BUILT_IN_DEFAULTS['signatures.ca_directory']),
      signer: hostName().prefault(BUILT_IN_DEFAULTS['signatures.signer']),
    })
    .prefault({}),
  network: networkSchema.prefault({}),
  share: mountSchema,
  mounts: z.array(mountSchema).prefault([]),
  ready_channel: oneOf('file', 'ssh', 'agent').prefault(BUILT_IN_DEFAULTS.ready_channel),
  ready_directory: guestPath().optional(),
  cvmfs: z
    .strictObject({
      repositories: z.array(repositoryName()).prefault([]),
      proxy: text('proxies such as "http://squid.example.org:3128;DIRECT"', (found) =>
        /^[A-Za-z0-9:/._|;[\]-]+$/.test(found),
      ).optional(),
      server: text('a URL without blanks, such as "http://cvmfs.example.org/cvmfs/@fqrn@"', (found) =>
        /^https?:\/\/[A-Za-z0-9:/._@;,-]+$/.test(found),
      ).optional(),
      tag: word('a tag of the repository').optional(),
      organisation: word('an organisation such as alice').optional(),
    })
    .prefault({}),
  time: z
    .strictObject({
      zone: text('a time zone such as Europe/Berlin', (found) =>
        /^[A-Za-z][A-Za-z0-9+_-]*(\/[A-Za-z0-9+_-]+){0,2}$/.test(found),
      ).optional(),
      ntp: z.array(hostOrAddress()).prefault([]),
    })
    .prefault({}),
  context: z
    .strictObject({
      templates: absolutePath().optional(),
      prolog: absolutePath().optional(),
      epilog: absolutePath().optional(),
      before_job: absolutePath().optional(),
      after_job: absolutePath().optional(),
    })
    .prefault({}),
  disk: z
    .strictObject({
      free_floor: size(0).prefault(BUILT_IN_DEFAULTS['disk.free_floor']),
      wait: durationOrZero().prefault(BUILT_IN_DEFAULTS['disk.wait']),
      scratch: z
        .strictObject({
          default: size(0).prefault(BUILT_IN_DEFAULTS['disk.scratch.default']),
          maximum: size(0).prefault(BUILT_IN_DEFAULTS['disk.scratch.maximum']),
          path: guestPath().prefault(BUILT_IN_DEFAULTS['disk.scratch.path']),
        })
        .superRefine(checkLimits(formatSize))
        .prefault({}),
      cache: size(LEAST_DISK).optional(),
    })
    .prefault({}),
  features: z.strictObject({ hs06: wholeNumber(1, 1_000_000).optional() }).prefault({}),
  debug: z
    .strictObject({
      keep_on_failure: durationOrOff().prefault(BUILT_IN_DEFAULTS['debug.keep_on_failure']),
      consoles: wholeNumber(0, 10_000).prefault(BUILT_IN_DEFAULTS['debug.consoles']),
    })
    .prefault({}),
  timeouts: z
    .strictObject({
      ready: timeout('ready'),
      virsh: timeout('virsh'),
      ssh_connect: timeout('ssh_connect'),
      epilogue: timeout('epilogue'),
      reconnect: timeout('reconnect'),
      heartbeat: timeout('heartbeat'),
      share: timeout('share'),
    })
    .prefault({}),
});

/** The node file's content against the schema. */
export function checkSchema(content: unknown): {
  issues: z.core.$ZodIssue[];
  config: NodeConfig | undefined;
} {
  const parsed = nodeFile.safeParse(content);
  return parsed.success
    ? { issues: [], config: toNodeConfig(parsed.data) }
    : { issues: parsed.error.issues, config: undefined };
}

/** The keys that a mapping of the node file may have; empty where there is none or its keys are free. */
export function allowedKeys(path: readonly PropertyKey[]): string[] {
  if (path.length === 3 && path[0] === 'images' && path[2] === 'boot') return Object.keys(kernelBoot.shape);
  let schema: unknown = nodeFile;
  for (const key of path) {
    const mapping = unwrap(schema);
    if (mapping instanceof z.ZodObject) schema = mapping.shape[key as string];
    else if (mapping instanceof z.ZodRecord) schema = mapping.valueType;
    else if (mapping instanceof z.ZodArray) schema = mapping.element;
    else return [];
  }
  const mapping = unwrap(schema);
  return mapping instanceof z.ZodObject ? Object.keys(mapping.shape) : [];
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? unwrap(schema.unwrap())
    : schema;
}

function toNodeConfig(file: z.output<typeof nodeFile>): NodeConfig {
  const images = new Map<string, ImageConfig>();
  for (const [name, { memory, disk, sha256, backing, queues, groups, ssh_keys, ...rest }] of Object.entries(
    file.images,
  ))
    images.set(name, {
      name,
      ...rest,
      // The SSH server of CernVM 3 knows no ed25519, and every one knows RSA.
      sshKeys: ssh_keys ?? (rest.contextualisation === 'cernvm' ? 'rsa' : 'ed25519'),
      sha256: sha256?.toLowerCase(),
      backing: backing?.map((file) => ({ path: file.path, sha256: file.sha256.toLowerCase() })),
      queues,
      groups,
      diskBytes: disk,
      memory: { defaultBytes: memory.default, maximumBytes: memory.maximum },
    });
  const { timeouts, hypervisor, disk, context } = file;
  const uri = hypervisor.type === 'xen' ? 'hypervisor.uri (xen)' : 'hypervisor.uri';
  return {
    queues: file.queues,
    prologueMode: file.prologue_mode,
    starts: file.starts,
    memoryFloorBytes: file.memory.free_floor,
    maxLoad: file.max_load,
    guard: {
      faults: file.guard.faults,
      comeBack: file.guard.return,
      selfTestMs: file.guard.self_test_every,
      user: file.guard.self_test_user,
      node: file.guard.node,
      pbsBinPath: file.guard.pbs_bin_path,
    },
    state: file.state,
    log: file.log,
    hypervisor: {
      type: hypervisor.type,
      uri: hypervisor.uri ?? BUILT_IN_DEFAULTS[uri],
      machine: hypervisor.machine,
      cpu: hypervisor.cpu,
      xenMode: hypervisor.xen_mode,
      templates: hypervisor.templates,
      pinning: hypervisor.pinning,
      numa: hypervisor.numa,
      hugepageBytes: hypervisor.hugepages,
      cpuShares: hypervisor.cpu_shares,
      ioWeight: hypervisor.io_weight,
      partition: hypervisor.partition,
    },
    images,
    // Cross-checked beside the schema: text and a key of the images, or left out with a single image.
    defaultImage: String(file.default_image ?? [...images.keys()][0]),
    signatures: { caDirectory: file.signatures.ca_directory, signer: file.signatures.signer },
    network: toNetworkConfig(file.network, file.state),
    share: toMountConfig(file.share),
    mounts: file.mounts.map(toMountConfig),
    readyChannel: file.ready_channel,
    readyDirectory: file.ready_directory ?? `${file.share.path}/${DEFAULT_READY_DIRECTORY}`,
    cvmfs: {
      repositories: file.cvmfs.repositories,
      proxy: file.cvmfs.proxy,
      server: file.cvmfs.server,
      tag: file.cvmfs.tag,
      organisation: file.cvmfs.organisation,
    },
    time: { zone: file.time.zone, ntp: file.time.ntp },
    context: {
      templates: context.templates,
      prolog: context.prolog,
      epilog: context.epilog,
      beforeJob: context.before_job,
      afterJob: context.after_job,
    },
    disk: {
      freeFloorBytes: disk.free_floor,
      waitMs: disk.wait,
      scratch: {
        defaultBytes: disk.scratch.default,
        maximumBytes: disk.scratch.maximum,
        path: disk.scratch.path,
      },
      cacheBytes: disk.cache,
    },
    features: { hs06: file.features.hs06 },
    debug: { keepOnFailureMs: file.debug.keep_on_failure, consoles: file.debug.consoles },
    timeouts: {
      readyMs: timeouts.ready,
      virshMs: timeouts.virsh,
      sshConnectMs: timeouts.ssh_connect,
      epilogueMs: timeouts.epilogue,
      reconnectMs: timeouts.reconnect,
      heartbeatMs: timeouts.heartbeat,
      shareMs: timeouts.share,
    },
  };
}
