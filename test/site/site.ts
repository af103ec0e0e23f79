// A one-node site on this machine, for the demo and the tests: share, batch system, hypervisor, node, CE. All of
// it is below one directory, and all of it goes again.
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { openVirsh } from '../../src/hypervisor/virsh.ts';
import { VmbatchError } from '../../src/util/errors.ts';
import { describeRun, run } from '../../src/util/run.ts';
import { type Standin, startStandin } from '../standin/start.ts';
import { cpuCanVirtualise, startPrivateLibvirtd, systemLibvirtdRunning } from './libvirtd.ts';
import { startNfsServer } from './nfs.ts';

export const QUEUE = 'vmalice';

/** The parts of a site in the order in which they are started, in words. */
export const SITE_STAGES = {
  account: 'an account and directories for the site',
  image: 'the demo guest, made from Debian packages if it is not there',
  hypervisor: 'libvirt',
  share: 'the shared file system (NFS)',
  batch: 'the batch system (a stand-in for TORQUE) and the hooks of the worker node',
} as const;

export interface SiteOptions {
  /** Everything is below it; must be traversable for every user, and short (sockets). */
  directory: string;
  /** A Unix account made for the site and removed with it. */
  account: string;
  /** The dist/ to use. */
  dist: string;
  /** Told of each part as it starts. */
  onStage: (stage: keyof typeof SITE_STAGES) => void;
  slots?: number;
  addressing?: 'dhcp' | 'static';
}

export interface Site {
  directory: string;
  account: { name: string; uid: number; gid: number; home: string };
  /** With the batch system's commands on PATH. */
  env: NodeJS.ProcessEnv;
  dist: string;
  share: string;
  sessions: string;
  control: string;
  arcConf: string;
  nodeFile: string;
  /** The node's state directory: records, leases, history. */
  state: string;
  log: string;
  libvirtUri: string;
  standin: Standin;
  /** Replaces parts of the node file; what is not named stays. */
  configureNode(changes: Record<string, unknown>): void;
  /** Runs a program as the site's user, as a login on the CE would. */
  asUser(
    file: string,
    args: readonly string[],
    options?: { input?: string; cwd?: string },
  ): ReturnType<typeof run>;
  stop(): Promise<string[]>;
}

/** Starts everything. What was started before a failure is stopped again. */
export async function startSite(options: SiteOptions): Promise<Site> {
  const { directory, dist, onStage } = options;
  const undo: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    const left: string[] = [];
    for (const step of undo.splice(0).reverse()) {
      const said = await step().catch((error: unknown) => [String(error)]);
      if (Array.isArray(said)) left.push(...said.map(String));
    }
    return left;
  };
  try {
    onStage('account');
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    chmodSync(directory, 0o755);
    undo.push(async () => rmSync(directory, { recursive: true, force: true }));
    const paths = layOut(directory);
    const account = await makeAccount(options.account, join(paths.share, 'home', options.account));
    undo.push(() => removeAccount(options.account));

    onStage('image');
    const image = join(process.env['VMBATCH_CACHE'] ?? '/var/cache/vmbatch', 'demo-image');
    await mustRun(join(dist, 'vmbatch'), ['image', 'build-demo', '--out', image], 300_000);

    onStage('hypervisor');
    const libvirtUri = await hypervisor(join(directory, 'lv'), undo);

    onStage('share');
    const nfs = await startNfsServer({
      dir: paths.nfs,
      exportPath: paths.share,
      pseudo: '/share',
    });
    undo.push(() => nfs.stop());

    onStage('batch');
    const nodeFile = join(directory, 'node.yaml');
    const config = nodeConfiguration(paths, image, libvirtUri, nfs.port, options.addressing ?? 'dhcp');
    writeFileSync(nodeFile, stringify(config));
    const jobStarter = join(directory, 'job-starter');
    const standin = await startStandin({
      home: paths.torque,
      bundle: join(import.meta.dirname, '../../build/standin/lib'),
      serverName: 'vmbatch-ce',
      queues: [
        { name: QUEUE, attributes: {} },
        { name: 'plain', attributes: {} },
      ],
      nodes: [{ name: 'vmbatch-node', np: options.slots ?? 2 }],
      momConfig: [`$job_starter ${jobStarter}`, '$prologalarm 300'],
    });
    undo.push(async () => {
      const left = await standin.stop();
      return [...left, ...(await destroyGuests(libvirtUri))];
    });
    await mustRun(join(dist, 'vmbatch'), [
      ...['hooks', 'install', '--config', nodeFile],
      ...['--mom-dir', standin.momPrivDir, '--job-starter', jobStarter],
    ]);

    const arcConf = join(directory, 'arc.conf');
    writeFileSync(arcConf, arcConfiguration(paths.control, standin));
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
      state: paths.state,
      log: paths.log,
      libvirtUri,
      standin,
      configureNode: (changes) => writeFileSync(nodeFile, stringify({ ...config, ...changes })),
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
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Arguments of setpriv for an account. */
export function asAccount(account: { uid: number; gid: number }): string[] {
  return [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--init-groups'];
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

async function hypervisor(directory: string, undo: (() => Promise<unknown>)[]): Promise<string> {
  if (await systemLibvirtdRunning()) return 'qemu:///system';
  mkdirSync(directory, { recursive: true });
  const libvirtd = await startPrivateLibvirtd(directory, { hideKvm: !cpuCanVirtualise() });
  undo.push(() => libvirtd.stop());
  return libvirtd.uri;
}

/** Guests outlive the daemons that started them: none may be left when the site goes. */
async function destroyGuests(uri: string): Promise<string[]> {
  const hypervisor = openVirsh({ uri, timeoutMs: 60_000, run });
  const names = (await hypervisor.list()).filter((name) => name.startsWith('vmbatch-'));
  await Promise.all(names.map((name) => hypervisor.destroy(name)));
  return names.map((name) => `domain ${name}`);
}

function nodeConfiguration(
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

function arcConfiguration(control: string, standin: Standin): string {
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

async function makeAccount(name: string, home: string): Promise<Site['account']> {
  if (!accountLine(name)) {
    // A home on the share, so that a plain job finds its files in the guest.
    const args = ['--no-create-home', '--home-dir', home, '--shell', '/bin/bash', '--user-group', name];
    await mustRun('useradd', args);
  } else await mustRun('usermod', ['--home', home, name]);
  const [, , uid, gid] = accountLine(name)?.split(':') ?? [];
  mkdirSync(home, { recursive: true });
  chownSync(home, Number(uid), Number(gid));
  chmodSync(home, 0o700);
  return { name, uid: Number(uid), gid: Number(gid), home };
}

async function removeAccount(name: string): Promise<void> {
  if (accountLine(name)) await mustRun('userdel', [name]);
}

function accountLine(name: string): string | undefined {
  return readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`));
}

async function mustRun(file: string, args: readonly string[], timeoutMs = 60_000): Promise<void> {
  const result = await run(file, args, { timeoutMs });
  if (result.exitCode === 0) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'site-setup',
    message: describeRun(result),
    cause: new Error(existsSync(file) ? result.stderr.trim() : `${file} is missing`),
  });
}
