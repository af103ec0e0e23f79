// What is measured of the worker node: prologue, epilogue, the job's session, guests that start together.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { demoDirectory } from '../../src/commands/image.ts';
import { macAddress } from '../../src/guest/network/mac.ts';
import { buildDemoImage } from '../../src/image/demo/build.ts';
import { jobPaths } from '../../src/node/record.ts';
import { run } from '../../src/util/processes/run.ts';
import { runSheltered } from '../site/sheltered.ts';
import type { Site } from '../site/site.ts';
import { compare, environment, median } from './measure.ts';
import { handMadeJob, runHook, submitJob, untilEnded, withNodeSite } from './node-site.ts';
import { countProcesses } from './processes.ts';
import type { Figure, Row } from './rows.ts';

const seconds = (what: string, ours: number, must: number, reference?: Figure['reference']): Figure => ({
  ...{ what, ours, unit: 's', value: ours, must },
  ...(reference === undefined ? {} : { reference }),
});

const iso: Row = {
  name: 'iso',
  about: 'the first context disk of a process, wall, against genisoimage as a process',
  measure: (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'vmbatch-bench-iso-'));
    try {
      const script = join(folder, 'job.sh');
      writeFileSync(script, '#!/bin/sh\n');
      const words = ['context', 'build', '--script', script, '--json', '--config', join(folder, 'none')];
      const json = spawnSync(join(context.program, 'vmbatch'), words, {
        encoding: 'utf8',
        env: environment(),
      }).stdout;
      const list = join(folder, 'files.json');
      writeFileSync(list, json);
      for (const [path, text] of Object.entries(JSON.parse(json) as Record<string, string>)) {
        mkdirSync(dirname(join(folder, 'tree', path)), { recursive: true });
        writeFileSync(join(folder, 'tree', path), text);
      }
      const ours = () => {
        const program = join(import.meta.dirname, 'iso-start.cjs');
        return Number(
          spawnSync(process.execPath, [program, list], { encoding: 'utf8', env: environment() }).stdout.split(
            ' ',
          )[0],
        );
      };
      const theirs = () => {
        const started = performance.now();
        const args = [
          '-quiet',
          '-R',
          '-J',
          '-V',
          'cidata',
          '-o',
          join(folder, 'x.iso'),
          join(folder, 'tree'),
        ];
        const { status } = spawnSync('genisoimage', args, { stdio: 'ignore' });
        if (status !== 0) throw new Error('genisoimage failed');
        return performance.now() - started;
      };
      const both = compare(context.turns(15), ours, theirs);
      return [
        {
          what: 'context disk',
          ours: both.ours,
          unit: 'ms',
          reference: { what: 'genisoimage', value: both.reference },
          value: both.ratio,
          must: 1 / 3,
        },
      ];
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

const hooks: Row = {
  name: 'hooks',
  about:
    'prologue of a foreign queue against an empty sh script; processes of prologue and epilogue (needs strace); fake guests',
  measure: (context) =>
    withNodeSite(context.program, { guests: 'fake' }, async (site) => {
      const foreign = handMadeJob(site, '#!/bin/sh\n', 'other');
      const empty = join(site.directory, 'empty');
      writeFileSync(empty, '#!/bin/sh\n', { mode: 0o755 });
      const wall = (argv: readonly string[]) => () => {
        const started = performance.now();
        for (let round = 0; round < 50; round++)
          spawnSync(argv[0] ?? '', argv.slice(1), { cwd: site.standin.momPrivDir, stdio: 'ignore' });
        return (performance.now() - started) / 50;
      };
      await runHook(site, handMadeJob(site, '#!/bin/sh\n', 'other').prologue);
      const both = compare(context.turns(9), wall(foreign.prologue), wall([empty]));
      const figures: Figure[] = [
        {
          what: 'prologue, foreign queue',
          ours: both.ours,
          unit: 'ms',
          reference: { what: 'empty sh script', value: both.reference },
          value: both.ratio,
          must: 2,
        },
      ];
      const job = handMadeJob(site);
      await runSheltered('chown', [site.account.name, job.script]);
      // virsh of fake guests starts what libvirt's daemon would start.
      const options = { cwd: site.standin.momPrivDir, env: hookEnvironment(site), below: 'virsh' };
      const started = await countProcesses(job.prologue, options);
      const ended = await countProcesses(job.epilogue, options);
      if (started === undefined || ended === undefined) return figures;
      const processes = (what: string, ours: number, must: number): Figure => ({
        what,
        ours,
        unit: 'processes',
        value: ours,
        must,
      });
      return [
        ...figures,
        processes('processes of a prologue', started, 6),
        processes('processes of an epilogue', ended, 4),
      ];
    }),
};

function hookEnvironment(site: Site): NodeJS.ProcessEnv {
  const path = /^PATH=(.*)$/m.exec(readFileSync(join(site.standin.home, 'pbs_environment'), 'utf8'))?.[1];
  return { ...environment(), ...(path === undefined ? {} : { PATH: path }) };
}

const guest: Row = {
  name: 'guest',
  about: 'prologue beyond the boot itself and virsh create; epilogue beyond virsh destroy; real guests',
  measure: (context) =>
    withNodeSite(context.program, {}, async (site) => {
      const own: number[] = [];
      const after: number[] = [];
      const boots: number[] = [];
      const creates: number[] = [];
      const image = await buildDemoImage({
        directory: demoDirectory(undefined, process.env),
        force: false,
        run,
      });
      const virsh = (...words: string[]) =>
        runSheltered('virsh', ['-q', '-c', site.libvirtUri, ...words], { timeoutMs: 60_000 });
      for (let turn = 0; turn < context.turns(3); turn++) {
        const job = handMadeJob(site);
        const prologue = await runHook(site, job.prologue);
        // The same domain again, by virsh alone.
        const paths = jobPaths(site.state, job.id);
        const destroyed = await timed(() => virsh('destroy', `vmbatch-${job.id}`));
        const { readyFile } = JSON.parse(readFileSync(paths.record, 'utf8'));
        rmSync(readyFile, { force: true });
        const bare = await bareBoot(site, image, { iso: paths.contextIso, readyFile });
        const created = await timed(() => virsh('create', paths.domainXml));
        const epilogue = await runHook(site, job.epilogue);
        creates.push(created);
        boots.push(bare);
        own.push(prologue - bare - created);
        after.push(epilogue - destroyed);
      }
      const boot = `boot under bare QEMU ${median(boots).toFixed(2)} s, virsh create`;
      return [
        seconds('prologue beyond boot and virsh create', median(own), 0.5, undefined),
        seconds('epilogue beyond virsh destroy', median(after), 0.3),
        { ...seconds(boot, median(creates), Number.POSITIVE_INFINITY) },
      ];
    }),
};

async function timed(work: () => Promise<{ exitCode: number | undefined; stderr: string }>): Promise<number> {
  const started = performance.now();
  const { exitCode, stderr } = await work();
  if (exitCode !== 0) throw new Error(stderr);
  return (performance.now() - started) / 1000;
}

/** Seconds from the start of a bare QEMU until the guest has written its ready file: with the job's own
 * context disk. */
async function bareBoot(site: Site, image: Image, job: { iso: string; readyFile: string }): Promise<number> {
  const overlay = join(site.directory, 'bare.qcow2');
  const template = join(image.directory, 'template.qcow2');
  const made = await runSheltered('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-F',
    'qcow2',
    '-b',
    template,
    overlay,
  ]);
  if (made.exitCode !== 0) throw new Error(made.stderr);
  const started = performance.now();
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...[
        '-accel',
        'tcg',
        '-machine',
        'pc',
        '-cpu',
        'max',
        '-m',
        '256',
        '-smp',
        '1',
        '-nodefaults',
        '-display',
        'none',
      ],
      ...['-no-reboot', '-serial', `file:${overlay}.log`, '-append', image.manifest.kernelParameters],
      ...['-kernel', join(image.directory, 'vmlinuz'), '-initrd', join(image.directory, 'initrd.img')],
      ...['-drive', `file=${overlay},if=none,id=root,cache=unsafe,format=qcow2`],
      ...['-device', 'virtio-blk-pci,drive=root,serial=vmbatch-root'],
      ...['-drive', `file=${job.iso},format=raw,if=ide,index=2,media=cdrom`],
      ...[
        '-netdev',
        'user,id=net0',
        '-device',
        `virtio-net-pci,netdev=net0,romfile=,mac=${macAddress(basename(dirname(job.iso)))}`,
      ],
    ],
    { stdio: 'ignore' },
  );
  try {
    for (let round = 0; !existsSync(job.readyFile); round++) {
      if (round > 3_000 || qemu.exitCode !== null) throw new Error('the bare guest does not get ready');
      await sleep(20);
    }
    return (performance.now() - started) / 1000;
  } finally {
    qemu.kill('SIGKILL');
    await new Promise((resolve) => qemu.once('close', resolve));
    for (const path of [overlay, `${overlay}.log`, job.readyFile]) rmSync(path, { force: true });
  }
}

type Image = Awaited<ReturnType<typeof buildDemoImage>>;

const MEBIBYTES = 100;

const session: Row = {
  name: 'session',
  about: "100 MiB of job output against OpenSSH's rate, and the memory of the job's process; fake guests",
  measure: (context) =>
    withNodeSite(context.program, { guests: 'fake', slots: 1 }, async (site) => {
      const ours: number[] = [];
      const theirs: number[] = [];
      const peaks: number[] = [];
      const quiet: number[] = [];
      for (let turn = 0; turn < context.turns(5); turn++) {
        const times = join(site.account.home, `times-${turn}`);
        const text = `date +%s%N >${times}; head -c ${MEBIBYTES}M /dev/zero`;
        const waiting = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], {
          stdio: 'ignore',
          env: environment(),
        });
        const id = await submitJob(site, `#!/bin/sh\nsleep 1.5\n${text}\nsleep 20\n`);
        const pid = await starterOf(site);
        await sleep(1_000);
        quiet.push((memoryOf(pid, 'VmRSS') ?? 0) / (memoryOf(waiting.pid ?? 0, 'VmRSS') ?? 1));
        // From the first byte in the guest to the last in the mom's file.
        const spool = join(site.standin.spoolDir, `${id}.OU`);
        const enough = () => (statSync(spool, { throwIfNoEntry: false })?.size ?? 0) >= MEBIBYTES * 1024 ** 2;
        for (let round = 0; round < 3000 && !enough(); round++) await sleep(10);
        const arrived = Date.now() / 1000;
        peaks.push(memoryOf(pid, 'VmHWM') ?? 0);
        ours.push(rate(times, arrived));
        rmSync(times);
        // OpenSSH into the same guest, and into a file as well.
        const client = join(site.dist, 'vmbatch');
        const reference = await runSheltered(
          'sh',
          [
            '-c',
            'file=$1; shift; "$@" >"$file"',
            'sh',
            `${times}.out`,
            client,
            'ssh',
            '--config',
            site.nodeFile,
            id,
            text,
          ],
          { timeoutMs: 60_000, env: { ...environment() } },
        );
        if (reference.exitCode !== 0) throw new Error(reference.stderr);
        theirs.push(rate(times, Date.now() / 1000));
        rmSync(`${times}.out`);
        waiting.kill();
        await site.asUser(join(site.standin.binDir, 'qdel'), [id]);
        await untilEnded(site, [id], 30_000);
      }
      const [ourRate, theirRate] = [median(ours), median(theirs)];
      return [
        {
          what: `${MEBIBYTES} MiB of output, time`,
          ours: (MEBIBYTES / ourRate) * 1000,
          unit: 'ms',
          reference: { what: 'OpenSSH', value: (MEBIBYTES / theirRate) * 1000 },
          value: theirRate / ourRate,
          must: 1 / 0.6,
        },
        {
          what: 'most memory of the process meanwhile',
          ours: median(peaks) / 1024,
          unit: 'MiB',
          value: median(peaks) / 1024,
          must: 140,
        },
        {
          what: 'memory, the job being quiet, × a waiting Node',
          ours: median(quiet),
          unit: 'times',
          value: median(quiet),
          must: 1.5,
        },
      ];
    }),
};

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').trim().split('\n');
  } catch {
    return [];
  }
}

/** MiB a second, from the time (seconds since 1970, in nanoseconds) that the job has left. */
function rate(times: string, until: number): number {
  return MEBIBYTES / (until - Number(linesOf(times)[0] ?? 0) / 1e9);
}

/** The process that runs a job's session. */
async function starterOf(site: Site): Promise<number> {
  for (let round = 0; round < 200; round++) {
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const words = linesOf(`/proc/${entry}/cmdline`).join('').split('\0');
      if (words[1] === join(site.dist, 'vmbatch') && words[2] === 'run') return Number(entry);
    }
    await sleep(50);
  }
  throw new Error('no job is started');
}

/** KiB. */
function memoryOf(pid: number, what: 'VmRSS' | 'VmHWM'): number | undefined {
  const value = new RegExp(`^${what}:\\s+(\\d+)`, 'm').exec(linesOf(`/proc/${pid}/status`).join('\n'))?.[1];
  return value === undefined ? undefined : Number(value);
}

const storm: Row = {
  name: 'storm',
  about: '8 guests started at once, all ready, against 4 boots one after the other; real guests',
  measure: (context) =>
    withNodeSite(context.program, { slots: 8 }, async (site) => {
      const single: number[] = [];
      for (let turn = 0; turn < 4; turn++) {
        const job = handMadeJob(site);
        single.push(await runHook(site, job.prologue));
        await runHook(site, job.epilogue);
      }
      const jobs = Array.from({ length: 8 }, () => handMadeJob(site));
      const begun = performance.now();
      await Promise.all(jobs.map((job) => runHook(site, job.prologue)));
      const all = (performance.now() - begun) / 1000;
      for (const job of jobs) await runHook(site, job.epilogue);
      const four = single.reduce((sum, one) => sum + one, 0);
      return [
        {
          what: '8 guests at once',
          ours: all,
          unit: 's',
          reference: { what: '4 one by one', value: four },
          value: all / four,
          must: 1.25,
        },
      ];
    }),
};

const modes: Row = {
  name: 'modes',
  about:
    '4 jobs at once on 4 slots until all have ended, by prologue mode; moms start one job after the other; real guests',
  measure: async (context) => {
    const figures: Figure[] = [];
    for (const mode of ['ready', 'started'] as const)
      await withNodeSite(context.program, { slots: 4, blockStarts: true }, async (site) => {
        site.configureNode({ prologue_mode: mode });
        const job = handMadeJob(site);
        await runHook(site, job.prologue);
        await runHook(site, job.epilogue);
        const spent: number[] = [];
        for (let turn = 0; turn < context.turns(2); turn++) {
          const begun = performance.now();
          const ids = await Promise.all(
            Array.from({ length: 4 }, () => submitJob(site, '#!/bin/sh\ntrue\n')),
          );
          await untilEnded(site, ids, 300_000);
          spent.push((performance.now() - begun) / 1000);
        }
        const [value] = [median(spent)];
        const other = figures[0];
        figures.push({
          ...{ what: `4 jobs at once, mode ${mode}`, ours: value, unit: 's', must: Number.POSITIVE_INFINITY },
          ...(other === undefined
            ? { value }
            : { value: value / other.ours, reference: { what: 'mode ready', value: other.ours } }),
        });
      });
    return figures;
  },
};

export const NODE_ROWS: readonly Row[] = [iso, hooks, session, guest, modes, storm];
