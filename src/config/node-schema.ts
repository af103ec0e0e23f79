// The schema of the node file: which keys there are, what each may hold, and what is assumed without it.
import * as z from 'zod';
import {
  BUILT_IN_DEFAULTS,
  DEFAULT_READY_DIRECTORY,
  type ImageBoot,
  type ImageConfig,
  type NodeConfig,
} from './node-config.ts';
import {
  absolutePath,
  duration,
  hasControlCharacters,
  isAbsolutePath,
  nfsVersion,
  oneOf,
  size,
  text,
  wholeNumber,
} from './node-values.ts';
import { formatSize } from './units.ts';

const MAX_VCPUS = 512;
const LEAST_MEMORY = 64 * 1024 ** 2;

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

const image = z.strictObject({
  path: absolutePath(),
  format: oneOf('qcow2').prefault(BUILT_IN_DEFAULTS['images.*.format']),
  contextualisation: oneOf('prepared').prefault(BUILT_IN_DEFAULTS['images.*.contextualisation']),
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
});

const server = text('host:/export, as the guest reaches it, such as "10.0.2.2:/share"', (found) => {
  const split = found.indexOf(':/');
  const host = found.slice(0, split);
  const exported = found.slice(split + 1);
  return /^([a-z0-9.-]+|\[[a-f0-9:.]+\])$/i.test(host) && (exported === '/' || isAbsolutePath(exported));
});

const timeout = (name: 'ready' | 'virsh' | 'ssh_connect' | 'epilogue' | 'reconnect') =>
  duration().prefault(BUILT_IN_DEFAULTS[`timeouts.${name}`]);

/** The node file's mapping. Images, and what one key demands of another, are checked by name beside it. */
const nodeFile = z.strictObject({
  queues: z
    .array(
      text('a queue name of 1 to 64 of A-Z a-z 0-9 . _ -', (found) =>
        /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(found),
      ),
    )
    .min(1),
  state: absolutePath().prefault(BUILT_IN_DEFAULTS.state),
  log: absolutePath().prefault(BUILT_IN_DEFAULTS.log),
  hypervisor: z
    .strictObject({
      type: oneOf('auto', 'kvm', 'qemu').prefault(BUILT_IN_DEFAULTS['hypervisor.type']),
      uri: text('a QEMU connection of libvirt, such as "qemu:///system"', (found) =>
        /^qemu(\+[a-z0-9]+)?:\/\/[!-~]*$/.test(found),
      ).prefault(BUILT_IN_DEFAULTS['hypervisor.uri']),
    })
    .prefault({}),
  images: z.record(z.string(), image),
  default_image: z.unknown().optional(),
  network: z
    .strictObject({
      type: oneOf('user').prefault(BUILT_IN_DEFAULTS['network.type']),
      addressing: oneOf('dhcp', 'static').prefault(BUILT_IN_DEFAULTS['network.addressing']),
    })
    .prefault({}),
  share: z.strictObject({
    type: oneOf('nfs'),
    server,
    path: absolutePath(),
    version: nfsVersion().prefault(BUILT_IN_DEFAULTS['share.version']),
    port: wholeNumber(1, 65535).prefault(BUILT_IN_DEFAULTS['share.port']),
    options: z
      .array(text('a mount option of a-z 0-9 _ = . : / -', (found) => /^[a-z0-9_=.:/-]+$/.test(found)))
      .prefault([]),
  }),
  ready_directory: absolutePath().optional(),
  disk: z.strictObject({ free_floor: size(0).prefault(BUILT_IN_DEFAULTS['disk.free_floor']) }).prefault({}),
  timeouts: z
    .strictObject({
      ready: timeout('ready'),
      virsh: timeout('virsh'),
      ssh_connect: timeout('ssh_connect'),
      epilogue: timeout('epilogue'),
      reconnect: timeout('reconnect'),
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
    else return [];
  }
  const mapping = unwrap(schema);
  return mapping instanceof z.ZodObject ? Object.keys(mapping.shape) : [];
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodPrefault ? unwrap(schema.unwrap()) : schema;
}

function toNodeConfig(file: z.output<typeof nodeFile>): NodeConfig {
  const images = new Map<string, ImageConfig>();
  for (const [name, { memory, ...rest }] of Object.entries(file.images))
    images.set(name, {
      name,
      ...rest,
      memory: { defaultBytes: memory.default, maximumBytes: memory.maximum },
    });
  const { timeouts } = file;
  return {
    queues: file.queues,
    state: file.state,
    log: file.log,
    hypervisor: file.hypervisor,
    images,
    // Cross-checked beside the schema: text and a key of the images, or left out with a single image.
    defaultImage: String(file.default_image ?? [...images.keys()][0]),
    network: file.network,
    share: file.share,
    readyDirectory: file.ready_directory ?? `${file.share.path}/${DEFAULT_READY_DIRECTORY}`,
    disk: { freeFloorBytes: file.disk.free_floor },
    timeouts: {
      readyMs: timeouts.ready,
      virshMs: timeouts.virsh,
      sshConnectMs: timeouts.ssh_connect,
      epilogueMs: timeouts.epilogue,
      reconnectMs: timeouts.reconnect,
    },
  };
}
