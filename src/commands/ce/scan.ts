// vmbatch scan: A-REX keeps it running as `scan-vmbatch-job --config CONF CONTROLDIR`, as root.
import { loadArcConfigurationLeniently } from '../../arc/configuration/configuration.ts';
import { torqueAt } from '../../batch/torque/commands.ts';
import { parseBackendArguments } from '../../ce/arguments.ts';
import { scan, scanOnce } from '../../ce/scan/scan.ts';

const USAGE = 'vmbatch scan --config CONF [--once] CONTROLDIR...';

const ENDING_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** What is written to stderr lands in A-REX's helperlog. SIGTERM ends it at once, but never halfway through a
 * job. */
export async function main(argv: string[]): Promise<number> {
  const { config, operands, once, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1000 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const log = (line: string) => process.stderr.write(`[${new Date().toISOString()}] vmbatch scan: ${line}\n`);
  const configuration = loadArcConfigurationLeniently(config, log);
  const stop = new AbortController();
  const end = () => stop.abort();
  // Not once: whoever runs programs ends by a signal that nobody listens to.
  for (const signal of ENDING_SIGNALS) process.on(signal, end);
  const options = {
    controlDirectories: operands,
    torque: torqueAt(configuration.pbsBinPath),
    logDirectory: configuration.pbsLogPath,
    sharedFilesystem: configuration.sharedFilesystem,
    perflogDirectory: configuration.perflogDirectory,
    log,
    signal: stop.signal,
  };
  try {
    await (once ? scanOnce(options) : scan(options));
  } finally {
    for (const signal of ENDING_SIGNALS) process.off(signal, end);
  }
  return 0;
}
