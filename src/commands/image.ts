// vmbatch image list|add|verify|prepare|remove|build-demo: the catalogue of template images
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { editNodeFile, type ImageEntry, withImage, withoutImage } from '../image/catalogue/edit.ts';
import { asTable, listImages } from '../image/catalogue/list.ts';
import { imagesOn, jobsOn } from '../image/catalogue/use.ts';
import { verifyImage } from '../image/catalogue/verify.ts';
import { imageFiles } from '../image/chain.ts';
import { lookAtSha256 } from '../image/hashes.ts';
import { layerPaths, readLayer } from '../image/layer/backing.ts';
import { loadServiceFiles, type PrepareMethod, prepareImage } from '../image/layer/prepare.ts';
import { DEFAULT_NODE_FILE } from '../node/environment.ts';
import { foreignOwner, mustBeOwn } from '../node/owner/state-owner.ts';
import { prepareState } from '../node/record.ts';
import {
  CONTEXTUALISATIONS,
  HYPERVISOR_TYPES,
  type ImageConfig,
  KEY_TYPES,
  type NodeConfig,
} from '../node-file/config.ts';
import { loadNodeConfig, parseNodeConfig } from '../node-file/read.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { run } from '../util/processes/run.ts';
import { reportError } from '../util/program/report.ts';
import { resourcePath } from '../util/program/resources.ts';

const DEFAULT_CACHE = '/var/cache/vmbatch';

export async function main(argv: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command('vmbatch image').exitOverride().description('the catalogue of template images');
  const config = () => new Option('--config <FILE>', 'the node file').default(DEFAULT_NODE_FILE);

  program
    .command('list')
    .description('the images of the node file, with their layers and the jobs that use them')
    .addOption(config())
    .option('--json', 'as JSON')
    .action((options: { config: string; json?: boolean }) => {
      const rows = listImages(loadNodeConfig(options.config));
      process.stdout.write(options.json === true ? `${JSON.stringify(rows, undefined, 2)}\n` : asTable(rows));
    });

  program
    .command('add')
    .description('add an image to the node file, whose other lines stay as they are')
    .argument('<NAME>')
    .requiredOption('--path <FILE>', 'the template image')
    .addOption(config())
    .addOption(new Option('--format <FORMAT>').choices(['qcow2', 'raw']))
    .addOption(
      new Option('--contextualisation <KIND>', 'who in the guest reads the context disk').choices([
        ...CONTEXTUALISATIONS,
      ]),
    )
    .addOption(
      new Option('--ssh-keys <KIND>', 'kind of the keys for SSH that its server knows').choices([
        ...KEY_TYPES,
      ]),
    )
    .addOption(
      new Option('--hypervisors <TYPE...>', 'types it boots with; default: all').choices([
        ...HYPERVISOR_TYPES,
      ]),
    )
    .option('--kernel <FILE>', 'boot this kernel instead of the boot loader of the image')
    .option('--initrd <FILE>')
    .option('--command-line <TEXT>', 'for the kernel')
    .option('--vcpus <DEFAULT:MAXIMUM>')
    .option('--memory <DEFAULT:MAXIMUM>', 'such as "2 GiB:16 GiB"')
    .option('--queues <NAME...>', 'queues whose jobs may use it; default: all')
    .option('--groups <NAME...>', 'Unix groups whose jobs may use it; default: all')
    .option('--signed', 'it ends with the signature of a CernVM image, which must hold')
    .option('--sha256 <HEX>', 'what it must be; default: what it is now')
    .action(async (name: string, options: AddOptions) => {
      const entry = await entryOf(name, options);
      await editNodeFile(options.config, async (text) => {
        const changed = withImage(text, options.config, name, entry);
        const node = parseNodeConfig(changed, options.config);
        const image = imageOf(node, name);
        // A hash that was just computed needs no second reading of the image.
        const { sha256 } = options;
        await verifyImage(
          sha256 === undefined ? { ...image, sha256, backing: undefined } : image,
          node.signatures,
          memoryOf(node),
        );
        return changed;
      });
      process.stdout.write(`added ${name} to ${options.config}\n`);
    });

  program
    .command('verify')
    .description('compare hash and signature of images with the node file')
    .argument('[NAME...]', 'default: all')
    .addOption(config())
    .action(async (names: string[], options: { config: string }) => {
      const node = loadNodeConfig(options.config);
      for (const image of imagesOf(node, names))
        try {
          const good = await verifyImage(image, node.signatures, memoryOf(node));
          process.stdout.write(
            good.length === 0
              ? `${image.name}: is there; nothing to compare with (sha256, signed)\n`
              : `${image.name}: good: ${good.join(', ')}\n`,
          );
        } catch (thrown) {
          const error = toVmbatchError(thrown, 'node');
          process.stderr.write(`${reportError(error)}\n`);
          exitCode = FAULT_OUTCOMES[error.fault].commandExit;
        }
    });

  program
    .command('prepare')
    .description('put the guest service into layers on images that have no agent, once on each node')
    .argument('[NAME...]', 'default: those that have a layer already')
    .addOption(config())
    .addOption(
      new Option('--method <METHOD>', 'how to write into the layer; auto: libguestfs where it is installed')
        .choices(['auto', 'libguestfs', 'e2fsprogs'])
        .default('auto'),
    )
    .option('--force', 'also if the layer is up to date')
    .action(async (names: string[], options: { config: string; method: PrepareMethod; force?: boolean }) => {
      const node = loadNodeConfig(options.config);
      const chosen =
        names.length > 0
          ? imagesOf(node, names)
          : [...node.images.values()].filter(({ name }) => readLayer(node.state, name) !== undefined);
      if (chosen.length === 0) say('no image has a layer yet: name those that are to have one');
      mkdirSync(node.state, { recursive: true, mode: 0o711 });
      prepareState(node.state);
      for (const image of chosen) await prepare(node, image, options.method, options.force ?? false);
    });

  program
    .command('remove')
    .description('take an image and its layer away; refused while a job uses it')
    .argument('<NAME>')
    .addOption(config())
    .option('--layer', 'the layer only: jobs then stand on the image itself')
    .option('--delete-file', 'delete the image file too')
    .action(remove);

  program
    .command('build-demo')
    .description('make the small Linux guest that the demo and the tests run jobs in, from Debian packages')
    .option(
      '--out <DIR>',
      `where to put it. Default: $VMBATCH_CACHE/demo-image, else ${DEFAULT_CACHE}/demo-image`,
    )
    .option('--force', 'build again, with the packages that apt offers now')
    .option('--print', 'print the manifest (JSON) on standard output instead of the entry for the node file')
    .action(buildDemo);
  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

interface AddOptions {
  config: string;
  path: string;
  format?: string;
  contextualisation?: string;
  sshKeys?: string;
  hypervisors?: string[];
  kernel?: string;
  initrd?: string;
  commandLine?: string;
  vcpus?: string;
  memory?: string;
  queues?: string[];
  groups?: string[];
  signed?: boolean;
  sha256?: string;
}

/** What was given as it stands in the node file, which is checked as a whole then. */
async function entryOf(name: string, options: AddOptions): Promise<ImageEntry> {
  const path = resolve(options.path);
  const state = existsSync(options.config) ? memoryOf(loadNodeConfig(options.config)) : undefined;
  const { kernel, initrd, commandLine } = options;
  if ((initrd !== undefined || commandLine !== undefined) && kernel === undefined)
    throw usage('--initrd and --command-line go with --kernel');
  const entries: [string, unknown][] = [
    ['path', path],
    ['format', options.format],
    ['sha256', options.sha256 ?? (await hashOf(state, path))],
    ['backing', await backingOf(name, state, path, options)],
    ['signed', options.signed],
    ['contextualisation', options.contextualisation],
    ['ssh_keys', options.sshKeys],
    ['hypervisors', options.hypervisors],
    ['vcpus', limitsOf('--vcpus', options.vcpus, Number)],
    ['memory', limitsOf('--memory', options.memory, String)],
    ['queues', options.queues],
    ['groups', options.groups],
    [
      'boot',
      kernel === undefined
        ? undefined
        : {
            kernel: resolve(kernel),
            ...(initrd === undefined ? {} : { initrd: resolve(initrd) }),
            ...(commandLine === undefined ? {} : { command_line: commandLine }),
          },
    ],
  ];
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** What an overlay stands on belongs to the image: whoever changes that changes what guests see. */
async function backingOf(name: string, state: string | undefined, path: string, { format }: AddOptions) {
  const [, ...below] = imageFiles({ name, path, format: format === 'raw' ? 'raw' : 'qcow2' });
  if (below.length === 0) return undefined;
  say(`${path} stands on ${below.join(', ')}: their SHA-256 belong to the image`);
  const backing: { path: string; sha256: string }[] = [];
  for (const file of below) backing.push({ path: file, sha256: await hashOf(state, file) });
  return backing;
}

/** Where hashes are remembered, for guests that start; undefined: it is not for us to write there. */
function memoryOf({ state }: NodeConfig): string | undefined {
  return process.geteuid?.() === 0 && existsSync(state) && foreignOwner(state) === undefined
    ? state
    : undefined;
}

async function hashOf(state: string | undefined, path: string): Promise<string> {
  try {
    return await lookAtSha256(state, path);
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-absent',
      message: `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      cause: error,
    });
  }
}

function limitsOf(option: string, text: string | undefined, convert: (part: string) => unknown) {
  if (text === undefined) return undefined;
  const parts = text.split(':');
  const [first, second] = parts;
  if (parts.length !== 2 || !first || !second)
    throw usage(`${option}: found "${text}", allowed: DEFAULT:MAXIMUM`);
  return { default: convert(first), maximum: convert(second) };
}

async function prepare(
  node: NodeConfig,
  image: ImageConfig,
  method: PrepareMethod,
  force: boolean,
): Promise<void> {
  const started = performance.now();
  const files = loadServiceFiles(resourcePath);
  const made = await prepareImage({ run, state: node.state, image, files, method, force, say });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(made ? `${image.name}: prepared in ${seconds} s\n` : `${image.name}: is up to date\n`);
}

async function remove(
  name: string,
  options: { config: string; layer?: boolean; deleteFile?: boolean },
): Promise<void> {
  const node = loadNodeConfig(options.config);
  const image = imageOf(node, name);
  mustBeOwn(node.state);
  const jobs = jobsOn(node.state, image);
  if (jobs.length > 0)
    throw new VmbatchError({
      fault: 'node',
      code: 'image-in-use',
      message: `image ${name} is in use by ${jobs.length} job${jobs.length === 1 ? '' : 's'}: ${jobs.join(', ')}`,
      hint: 'take it out of the node file so that no new job gets it, and try again when they are over',
    });
  const others = imagesOn(node.images.values(), image.path, name);
  if (options.deleteFile === true && others.length > 0)
    throw new VmbatchError({
      fault: 'node',
      code: 'image-in-use',
      message: `${image.path} is also what ${others.join(', ')} stands on`,
      hint: 'remove it without --delete-file',
    });
  if (options.layer !== true)
    await editNodeFile(options.config, (text) => withoutImage(text, options.config, name));
  rmSync(layerPaths(node.state, name).directory, { recursive: true, force: true });
  if (options.deleteFile === true) rmSync(image.path, { force: true });
  process.stdout.write(options.layer === true ? `removed the layer of ${name}\n` : `removed ${name}\n`);
}

function imagesOf(node: NodeConfig, names: readonly string[]): ImageConfig[] {
  return names.length === 0 ? [...node.images.values()] : names.map((name) => imageOf(node, name));
}

function imageOf(node: NodeConfig, name: string): ImageConfig {
  const image = node.images.get(name);
  if (image === undefined)
    throw usage(`there is no image ${name}; there is ${[...node.images.keys()].join(', ')}`);
  return image;
}

/** Where the demo image goes. */
export function demoDirectory(out: string | undefined, environment: NodeJS.ProcessEnv): string {
  if (out === '') throw usage('--out is empty, it must name a directory');
  return out ?? join(environment['VMBATCH_CACHE'] || DEFAULT_CACHE, 'demo-image');
}

async function buildDemo(options: { out?: string; force?: boolean; print?: boolean }): Promise<void> {
  const { buildDemoImage } = await import('../image/demo/build.ts');
  const { demoImageEntry } = await import('../image/demo/node-entry.ts');
  const directory = demoDirectory(options.out, process.env);
  const started = performance.now();
  const result = await buildDemoImage({ directory, force: options.force ?? false, run, progress: say });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say(result.built ? `${directory} built in ${seconds} s` : `${directory} is up to date`);
  if (options.print === true) process.stdout.write(`${JSON.stringify(result.manifest, null, 2)}\n`);
  else {
    say('put this into the node file:');
    process.stdout.write(demoImageEntry(resolve(directory)));
  }
}

/** Progress goes to stderr, so that what was asked for can be read from a pipe. */
function say(line: string): void {
  process.stderr.write(`vmbatch image: ${line}\n`);
}

function usage(message: string): VmbatchError {
  return new VmbatchError({ fault: 'job', code: 'usage', message, hint: 'see vmbatch image --help' });
}
