// `npm run demo`: one grid job in JAliEn's shape, from the grami file to A-REX's answer, in a real virtual machine.
import { readFileSync, rmSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { Listr, PRESET_TIMER } from 'listr2';
import colours from 'picocolors';
import { formatError, toVmbatchError } from '../../src/util/errors.ts';
import { startScan } from '../site/grid-job.ts';
import { SITE_STAGES, type Site, startSite } from '../site/site.ts';
import { type DemoResult, JOB_STAGES, runDemoJob } from './demo-job.ts';
import { Stages } from './stages.ts';

const HELP = `usage: npm run demo [-- [--json] [--fail N] [--static]]

Starts a one-node site on this machine (a stand-in for TORQUE, libvirt, a shared file system), submits one grid job
in JAliEn's shape, shows its way through a virtual machine of its own and back, and removes everything again.
  --json     one JSON object at the end, nothing else on stdout
  --fail N   the job exits with N (1 to 255)
  --static   the guest gets a static address instead of one by DHCP
`;

const STOP = 'the site is taken down';

async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean' },
      fail: { type: 'string' },
      static: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const exitCode = values.fail === undefined ? 0 : Number(values.fail);
  if (!Number.isInteger(exitCode) || exitCode < 0 || exitCode > 255) {
    process.stderr.write(`vmbatch: --fail takes a number from 1 to 255, not ${values.fail}\n`);
    return 2;
  }
  const stages = new Stages([...Object.values(SITE_STAGES), ...Object.values(JOB_STAGES), STOP]);
  const shown = show(stages, values.json === true);
  const demo = runDemo(stages, exitCode, values.static === true ? 'static' : 'dhcp');
  const [result] = await Promise.all([demo, shown]);
  process.stdout.write(
    values.json === true ? `${JSON.stringify(machineReadable(result))}\n` : report(result),
  );
  const clean = Object.values(result.left).every((count) => count === 0);
  return result.exitCode === exitCode && result.ranInGuest && clean ? 0 : 1;
}

async function runDemo(stages: Stages, exitCode: number, addressing: 'dhcp' | 'static'): Promise<DemoResult> {
  const directory = `/var/tmp/vmbatch-demo-${process.pid}`;
  let site: Site | undefined;
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.once(signal, () => reject(new Error(`stopped by ${signal}`)));
  });
  try {
    const work = async () => {
      site = await startSite({
        directory,
        account: 'vmbatch-demo',
        dist: join(import.meta.dirname, '../../dist'),
        onStage: (stage) => stages.begin(SITE_STAGES[stage]),
        addressing,
      });
      const scan = startScan(site);
      try {
        return await runDemoJob(site, exitCode, (stage) => stages.begin(stage));
      } finally {
        scan.kill('SIGTERM');
        stages.begin(STOP);
      }
    };
    const result = await Promise.race([work(), interrupted]);
    await site?.stop();
    stages.finish();
    return result;
  } catch (error) {
    stages.fail(error);
    await site?.stop();
    throw error;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A list that is kept up to date on a terminal, plain lines elsewhere, nothing with --json. */
async function show(stages: Stages, silent: boolean): Promise<void> {
  const tasks = stages.titles.map((title) => ({ title, task: () => stages.ended(title) }));
  const timer = { ...PRESET_TIMER, condition: true, field: (ms: number) => `${(ms / 1000).toFixed(1)} s` };
  const list = new Listr(tasks, {
    renderer: silent ? 'silent' : 'default',
    fallbackRenderer: 'simple',
    rendererOptions: { timer, collapseErrors: false },
    fallbackRendererOptions: { timer },
  });
  await list.run();
}

function machineReadable(result: DemoResult) {
  const { exitCode, ranInGuest, hypervisor, guest, seconds, left } = result;
  return { exitCode, ranInGuest, hypervisor, guest, seconds, left };
}

function report(result: DemoResult): string {
  const { guest, output } = result;
  const heading = (text: string) => `\n${colours.bold(text)}\n`;
  const indented = (text: string) => text.trimEnd().replace(/^/gm, '    ');
  const style = colours.isColorSupported ? {} : { head: [], border: [] };
  const proof = new Table({ head: ['', 'the job saw', 'this machine'], style });
  const seen = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(output.stdout)?.[1] ?? '?';
  proof.push(
    ['hostname', seen('hostname'), readFileSync('/proc/sys/kernel/hostname', 'utf8').trim()],
    ['kernel', seen('kernel'), readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()],
    ['processors', seen('processors'), String(cpus().length)],
    ['memory', seen('memory'), `MemTotal: ${Math.round(totalmem() / 1024)} kB`],
    ['boot id', seen('boot id'), result.hostBootId],
  );
  const times = new Table({ head: ['phase', 'seconds'], colAligns: ['left', 'right'], style });
  for (const [phase, seconds] of Object.entries(result.seconds)) times.push([phase, seconds.toFixed(2)]);
  const left = new Table({ head: Object.keys(result.left), style });
  left.push(Object.values(result.left));
  const verdict = result.ranInGuest
    ? colours.green(`yes: guest ${guest.hostname} under ${result.hypervisor}`)
    : colours.red('no');
  return [
    heading('The job said (std.out)'),
    indented(output.stdout),
    heading('std.err'),
    indented(output.stderr),
    heading('result.txt, made from input.txt'),
    indented(output.result),
    heading(`Did it run in a virtual machine of its own? ${verdict}`),
    proof.toString(),
    heading('Where the time went (guestBoot is part of prologue)'),
    times.toString(),
    heading('What A-REX reads'),
    indented(`lrms_done: ${`${result.exitCode} ${result.lrmsText}`.trimEnd()}\n${output.diag}`),
    heading('What is left of it on the node'),
    left.toString(),
    '',
  ].join('\n');
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${formatError(toVmbatchError(error))}\n`);
    process.exitCode = 1;
  },
);
