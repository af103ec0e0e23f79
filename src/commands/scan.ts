// vmbatch scan: A-REX keeps it running as `scan-vmbatch-job --config CONF CONTROLDIR`, as root.
import { loadArcConfigurationLeniently } from '../arc/configuration.ts';
import { parseBackendArguments } from '../ce/arguments.ts';
import { scan, scanOnce } from '../ce/scan.ts';
import { torqueAt } from '../torque/commands.ts';

const USAGE = 'vmbatch scan --config CONF [--once] CONTROLDIR...';

/** What is written to stderr lands in A-REX's helperlog. SIGTERM ends it at once, but never halfway through a job. */
export async function main(argv: string[]): Promise<number> {
  const { config, operands, once, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1000 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const log = (line: string) => process.stderr.write(`[${new Date().toISOString()}] vmbatch scan: ${line}\n`);
  const configuration = loadArcConfigurationLeniently(config, log);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  const options = {
    controlDirectories: operands,
    torque: torqueAt(configuration.pbsBinPath),
    logDirectory: configuration.pbsLogPath,
    sharedFilesystem: configuration.sharedFilesystem,
    perflogDirectory: configuration.perflogDirectory,
    log,
    signal: stop.signal,
  };
  await (once ? scanOnce(options) : scan(options));
  return 0;
}
