// `npm run demo`: one grid job in JAliEn's shape, from the grami file to A-REX's answer, in a real virtual
// machine.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startScan, stopScan } from '../site/grid-job.ts';
import { reportStop, runProgram, UsageError } from '../site/program.ts';
import { SITE_STAGES, startSite } from '../site/site.ts';
import { type DemoResult, JOB_STAGES, runDemoJob } from './demo-job.ts';
import { report } from './report.ts';
import { showStages } from './show.ts';
import { Stages } from './stages.ts';

const HELP = `usage: npm run demo [-- [--json] [--fail N] [--static]]

Starts a one-node site on this machine (a stand-in for TORQUE, libvirt, a shared file system), submits one grid job
in JAliEn's shape, shows its way through a virtual machine of its own and back, and removes everything again.
  --json     one JSON object at the end, nothing else on stdout
  --fail N   the job exits with N (1 to 255)
  --static   the guest gets a static address instead of one by DHCP
`;

const STOP = 'the site is taken down';

interface DemoOptions {
  help: boolean;
  json: boolean;
  exitCode: number;
  addressing: 'dhcp' | 'static';
}

function parse(argv: string[]): DemoOptions {
  const options = {
    json: { type: 'boolean' },
    fail: { type: 'string' },
    static: { type: 'boolean' },
    help: { type: 'boolean' },
  } as const;
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];
  try {
    ({ values } = parseArgs({ args: argv, options }));
  } catch (error) {
    // Node's first sentence names the option; the others are for programmers.
    throw new UsageError(error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error));
  }
  const exitCode = values.fail === undefined ? 0 : Number(values.fail);
  if (values.fail !== undefined && (!/^\d+$/.test(values.fail) || exitCode < 1 || exitCode > 255))
    throw new UsageError(`--fail takes a number from 1 to 255, not ${JSON.stringify(values.fail)}`);
  return {
    help: values.help === true,
    json: values.json === true,
    exitCode,
    addressing: values.static === true ? 'static' : 'dhcp',
  };
}

async function main(argv: string[], signal: AbortSignal): Promise<number> {
  const options = parse(argv);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const stages = new Stages([...Object.values(SITE_STAGES), ...Object.values(JOB_STAGES), STOP]);
  const shown = showStages(stages, options.json);
  let result: DemoResult;
  try {
    result = await runDemo(stages, options, signal);
    stages.finish();
  } catch (error) {
    stages.fail(signal.aborted ? signal.reason : error);
    throw error;
  } finally {
    // The list is complete before anything else is printed.
    await shown;
  }
  signal.throwIfAborted();
  process.stdout.write(options.json ? `${JSON.stringify(machineReadable(result))}\n` : report(result));
  const clean = Object.values(result.left).every((count) => count === 0);
  return result.exitCode === options.exitCode && result.ranInGuest && clean ? 0 : 1;
}

/** From nothing to nothing: whatever happens, the site is gone afterwards. */
async function runDemo(stages: Stages, options: DemoOptions, signal: AbortSignal): Promise<DemoResult> {
  const site = await startSite({
    directory: `/var/tmp/vmbatch-demo-${process.pid}`,
    account: 'vmbatch-demo',
    dist: join(import.meta.dirname, '../../dist'),
    onStage: (stage) => stages.begin(SITE_STAGES[stage]),
    addressing: options.addressing,
    onFailure: (lines) => reportStop(lines, signal),
    signal,
  });
  const scan = startScan(site);
  try {
    const result = await runDemoJob(site, options.exitCode, (stage) => stages.begin(stage), signal);
    stages.begin(STOP);
    return result;
  } finally {
    await stopScan(scan);
    reportStop(await site.stop(), signal);
  }
}

function machineReadable(result: DemoResult) {
  const { exitCode, ranInGuest, hypervisor, guest, seconds, left } = result;
  return { exitCode, ranInGuest, hypervisor, guest, seconds, left };
}

runProgram(main, HELP);
