// A one-node site on this machine, for the demo and the tests: share, batch system, hypervisor, node, CE. All
// of it is below one directory, and all of it goes again.
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { VmbatchError } from '../../src/util/errors.ts';
import { describeRun, run } from '../../src/util/processes/run.ts';
import { momPaths } from '../standin/common/site.ts';
import { stopDaemons } from '../standin/site/daemons.ts';
import { type Standin, startStandin } from '../standin/start.ts';
import { asAccount, makeAccount, type SiteAccount } from './account.ts';
import { arcConfiguration, nodeConfiguration, QUEUE, writePublic } from './configuration.ts';
import { claimDirectory, copyDist } from './directory.ts';
import { FAKE_IMAGE, type FakeHypervisor, installFakeHypervisor } from './fake-hypervisor.ts';
import { destroyGuests, killGuestProcesses } from './guests.ts';
import { cpuCanVirtualise, startPrivateLibvirtd, systemLibvirtdRunning } from './libvirtd.ts';
import {
  type GuestNetwork,
  type GuestNetworkKind,
  makeGuestNetwork,
  startLibvirtNetwork,
  stopLibvirtNetwork,
} from './network.ts';
import { startNfsServer } from './nfs.ts';
import { runSheltered } from './sheltered.ts';
import { failures, Undo } from './undo.ts';

export { QUEUE };

/** Not by PATH: in the hooks' a fake one may come first. */
const REAL_VIRSH = '/usr/bin/virsh';

/** The parts of a site in the order in which they are started, in words. */
export const SITE_STAGES = {
  account: 'an account and directories for the site',
  image: 'the demo guest (built if it is not there)',
  hypervisor: 'libvirt',
  share: 'the shared file system (NFS)',
  batch: 'a stand-in for TORQUE, and the hooks',
} as const;

export interface SiteOptions {
  /** Everything is below it, and it is removed at the end; short (sockets). */
  directory: string;
  /** A Unix account made for the site and removed with it; with a number at its end while another has the
   * name. */
  account: string;
  /** The dist/ to use; the site works with a copy. */
  dist: string;
  /** Told of each part as it starts. */
  onStage: (stage: keyof typeof SITE_STAGES) => void;
  slots?: number;
  /** Whether moms start one job after the other, as TORQUE's do. */
  blockStarts?: boolean;
  /** Worker nodes, all on this machine, each with hooks and state of its own; `vmbatch-node`,
   * `vmbatch-node2`, … Default: 1. */
  nodes?: number;
  /** A network of guests of its own, in a network namespace; default: QEMU's user network. Only with the demo
   * guest. */
  network?: GuestNetworkKind;
  addressing?: 'dhcp' | 'static';
  /** `demo` (default): the demo guest, on libvirt. `fake`: processes in namespaces that the guest service
   * takes for a machine; ready in a fraction of a second. `both`: jobs of the queue get fake guests, unless
   * they ask for the image `demo`. */
  guests?: 'demo' | 'fake' | 'both';
  /** Queues with guests besides the usual one. */
  queues?: readonly string[];
  /** What replaces parts of every node's file. */
  configuration?: Record<string, unknown>;
  /** Told what could not be removed again after a failed start, see `Site.stop`. */
  onFailure?: (lines: string[]) => void;
  /** Stops what is being started. */
  signal?: AbortSignal;
}

export interface Site {
  directory: string;
  account: SiteAccount;
  /** With the batch system's commands on PATH. */
  env: NodeJS.ProcessEnv;
  /** The site's own copy. */
  dist: string;
  share: string;
  sessions: string;
  control: string;
  arcConf: string;
  nodeFile: string;
  /** All nodes, the first first. */
  nodes: { name: string; nodeFile: string; state: string }[];
  /** Network namespace of the site; undefined: none of its own. */
  namespace: string | undefined;
  /** The node's state directory: records, leases, history. */
  state: string;
  log: string;
  libvirtUri: string;
  /** The program that the hooks take for virsh. */
  virsh: string;
  /** TORQUE's server; job ids end in it. No other site has it. */
  serverName: string;
  standin: Standin;
  /** Replaces parts of the node file; what is not named stays. */
  configureNode(changes: Record<string, unknown>): void;
  /** Runs a program as the site's user, as a login on the CE would. */
  asUser(
    file: string,
    args: readonly string[],
    options?: { input?: string; cwd?: string },
  ): ReturnType<typeof run>;
  /** What is to be undone before all else when the site stops; as with `Undo.add`. */
  beforeStop: Undo['add'];
  /** Ends and removes everything. Returns a line for all that had to be ended by force (`had to end …`) and
   * all that could not be removed (`could not …`). */
  stop(): Promise<string[]>;
}

/** Starts everything. What was started before a failure, or before `signal`, is stopped again.
 * @throws VmbatchError for what cannot be started; the reason of `signal`. */
export async function startSite(options: SiteOptions): Promise<Site> {
  const undo = new Undo();
  try {
    return await start(options, undo);
  } catch (error) {
    const left = failures(await undo.run());
    if (left.length > 0) options.onFailure?.(left);
    throw error;
  }
}

async function start(options: SiteOptions, undo: Undo): Promise<Site> {
  const { signal } = options;
  const begin = (stage: keyof typeof SITE_STAGES) => {
    signal?.throwIfAborted();
    options.onStage(stage);
  };
  begin('account');
  const { directory, release } = await claimDirectory(options.directory);
  undo.add(`remove ${directory}`, release);
  const paths = layOut(directory);
  const dist = join(directory, 'dist');
  await copyDist(options.dist, dist);
  const account = await makeAccount(options.account, join(paths.share, 'home'), undo);

  const guests = options.guests ?? 'demo';
  begin('image');
  const demo = guests === 'fake' ? undefined : await buildImage(dist, signal);

  begin('hypervisor');
  const network =
    options.network === undefined
      ? undefined
      : await makeGuestNetwork(
          options.network,
          `vmb-${process.pid}-${randomBytes(2).toString('hex')}`,
          join(directory, 'locks'),
          undo,
        );
  // No two sites may take each other's guests for their own, and these have their names from the job ids.
  // With an underscore, which a host name must not have and a server's may.
  const serverName = `vmbatch_ce-${randomBytes(3).toString('hex')}`;
  undo.add('end all guests', () => killGuestProcesses(serverName));
  const libvirtUri =
    demo === undefined ? 'qemu:///fake' : await hypervisor(join(directory, 'lv'), undo, signal, network);
  const fake =
    guests === 'demo'
      ? undefined
      : await installFakeHypervisor(
          join(directory, 'fake'),
          dist,
          demo === undefined ? undefined : REAL_VIRSH,
        );
  const virsh = fake?.virsh ?? REAL_VIRSH;

  begin('share');
  // A fake guest has it already.
  const port = demo === undefined ? 2049 : await startShare(paths, undo, signal, network);

  begin('batch');
  const nodeFile = join(directory, 'node.yaml');
  const queues = [QUEUE, ...(options.queues ?? [])];
  const usual = nodeConfiguration(paths, {
    queues,
    demo,
    fake: fake?.image,
    libvirtUri,
    nfsPort: port,
    addressing: options.addressing ?? 'dhcp',
    network,
  });
  const config = { ...usual, ...options.configuration };
  writePublic(nodeFile, stringify(config));
  const jobStarter = join(directory, 'job-starter');
  undo.add('destroy the guests', () => destroyGuests({ libvirtUri, serverName, virsh }));
  undo.add('stop the batch system', async () =>
    existsSync(join(paths.torque, 'standin.json')) ? stopDaemons(paths.torque) : undefined,
  );
  const nodeNames = Array.from(
    { length: options.nodes ?? 1 },
    (_, index) => `vmbatch-node${index === 0 ? '' : index + 1}`,
  );
  const standin = await startStandin({
    home: paths.torque,
    bundle: join(import.meta.dirname, '../../build/standin/lib'),
    serverName,
    queues: [...queues.map((name) => ({ name, attributes: {} })), { name: 'plain', attributes: {} }],
    nodes: nodeNames.map((name) => ({ name, np: options.slots ?? 2 })),
    ...(network === undefined ? {} : { namespace: network.namespace }),
    blockStarts: options.blockStarts ?? false,
    cgroups: true,
    momConfig: [`$job_starter ${jobStarter}`, '$prologalarm 300', '$usecp *:/ /'],
  });
  await mustRun(join(dist, 'vmbatch'), [
    ...['hooks', 'install', '--config', nodeFile],
    ...['--mom-dir', standin.momPrivDir, '--job-starter', jobStarter],
  ]);
  const nodes = [{ name: nodeNames[0] ?? '', nodeFile, state: paths.state }];
  for (const name of nodeNames.slice(1))
    nodes.push(await furtherNode(name, { directory, dist, config, standin }));
  if (fake !== undefined) for (const name of nodeNames) putFirstOnHooksPath(standin, fake, name);
  const arcConf = join(directory, 'arc.conf');
  writePublic(arcConf, arcConfiguration(paths.control, standin, fake === undefined ? 'demo' : FAKE_IMAGE));
  signal?.throwIfAborted();

  const env = { ...process.env, ...standin.env, TORQUE_STANDIN_HOME: paths.torque };
  return {
    directory,
    account,
    env,
    dist,
    share: paths.share,
    sessions: paths.sessions,
    control: paths.control,
    arcConf,
    nodeFile,
    nodes,
    namespace: network?.namespace,
    state: paths.state,
    log: paths.log,
    libvirtUri,
    virsh,
    serverName,
    standin,
    configureNode: (changes) => writePublic(nodeFile, stringify({ ...config, ...changes })),
    asUser: (file, args, { input, cwd } = {}) =>
      run('setpriv', [...asAccount(account), '--', file, ...args], {
        env: {
          PATH: env.PATH,
          HOME: account.home,
          LOGNAME: account.name,
          USER: account.name,
          LANG: 'C.UTF-8',
        },
        cwd: cwd ?? account.home,
        ...(input === undefined ? {} : { input }),
      }),
    beforeStop: (what, work) => undo.add(what, work),
    stop: () => undo.run(),
  };
}

/** Another worker node on this machine: its own node file, state directory, hooks and job starter. */
async function furtherNode(
  name: string,
  site: { directory: string; dist: string; config: Record<string, unknown>; standin: Standin },
): Promise<Site['nodes'][number]> {
  const { directory, dist, config, standin } = site;
  const nodeFile = join(directory, `${name}.yaml`);
  const state = join(directory, name);
  mkdirSync(state, { mode: 0o711 });
  writePublic(nodeFile, stringify({ ...config, state }));
  const jobStarter = join(directory, `${name}-job-starter`);
  const mom = momPaths(standin.home, name, false);
  writeFileSync(mom.config, `$job_starter ${jobStarter}\n$prologalarm 300\n$usecp *:/ /\n`);
  await mustRun(join(dist, 'vmbatch'), [
    ...['hooks', 'install', '--config', nodeFile],
    ...['--mom-dir', mom.momPriv, '--job-starter', jobStarter],
  ]);
  return { name, nodeFile, state };
}

/** The hooks' environment begins with what this file of the mom says. */
function putFirstOnHooksPath(standin: Standin, { binDir }: FakeHypervisor, node: string): void {
  const file = momPaths(standin.home, node, node === 'vmbatch-node').environment;
  writePublic(file, readFileSync(file, 'utf8').replace(/^PATH=/m, `PATH=${binDir}:`));
}

function layOut(directory: string) {
  const make = (name: string, mode: number) => {
    const path = join(directory, name);
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
    return path;
  };
  const share = make('share', 0o755);
  make('share/home', 0o755);
  const control = make('control', 0o755);
  for (const name of ['accepting', 'processing', 'finished', 'restarting', 'rte'])
    make(`control/${name}`, 0o755);
  return {
    share,
    control,
    sessions: make('share/session', 0o755),
    nfs: make('nfs', 0o700),
    torque: make('torque', 0o755),
    state: make('node', 0o711),
    log: join(directory, 'log'),
  };
}

async function startShare(
  paths: { nfs: string; share: string },
  undo: Undo,
  signal: AbortSignal | undefined,
  network: GuestNetwork | undefined,
): Promise<number> {
  const inside = network === undefined ? {} : { port: 2049, namespace: network.namespace };
  const nfs = await startNfsServer({
    dir: paths.nfs,
    exportPath: paths.share,
    pseudo: '/share',
    signal,
    ...inside,
  });
  undo.add('stop the NFS server', async () => void (await nfs.stop()));
  return nfs.port;
}

async function hypervisor(
  directory: string,
  undo: Undo,
  signal: AbortSignal | undefined,
  network: GuestNetwork | undefined,
): Promise<string> {
  if (network === undefined && (await systemLibvirtdRunning())) return 'qemu:///system';
  mkdirSync(directory, { recursive: true });
  const namespace = network?.namespace;
  const libvirtd = await startPrivateLibvirtd(directory, { hideKvm: !cpuCanVirtualise(), namespace, signal });
  undo.add('stop libvirtd', async () => void (await libvirtd.stop()));
  if (network?.kind === 'dhcp') {
    undo.add('stop the network of libvirt', () => stopLibvirtNetwork(libvirtd.uri));
    await startLibvirtNetwork(libvirtd.uri, directory);
  }
  return libvirtd.uri;
}

/** Makes the demo guest if it is not there; returns its directory. */
async function buildImage(dist: string, signal: AbortSignal | undefined): Promise<string> {
  const cache = process.env['VMBATCH_CACHE'] || '/var/cache/vmbatch';
  const image = join(cache, 'demo-image');
  let builder = 0;
  try {
    await mustRun(join(dist, 'vmbatch'), ['image', 'build-demo', '--out', image], {
      timeoutMs: 300_000,
      onStart: (pid) => {
        builder = pid;
      },
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    // One that was ended has not put its work directory away.
    for (const name of existsSync(cache) ? readdirSync(cache) : [])
      if (name.startsWith(`.demo-image-${builder}-`))
        rmSync(join(cache, name), { recursive: true, force: true });
    throw error;
  }
  return image;
}

async function mustRun(
  file: string,
  args: readonly string[],
  options: Parameters<typeof runSheltered>[2] = {},
): Promise<void> {
  const result = await runSheltered(file, args, options);
  options.signal?.throwIfAborted();
  if (result.exitCode === 0) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'site-setup',
    message: describeRun(result),
    cause: new Error(existsSync(file) ? result.stderr.trim() : `${file} is missing`),
  });
}
