// vmbatch context build: the context disk that a batch script would get on this node
import { resolve } from 'node:path';
import { Command } from 'commander';
import { buildIso, type IsoFile } from '../context/iso9660.ts';
import { previewGuest } from '../node/check/preview.ts';
import { DEFAULT_NODE_FILE } from '../node/environment.ts';
import { writeFileAtomic } from '../util/files/files.ts';

interface Options {
  script: string;
  out?: string;
  config: string;
  queue?: string;
  user?: string;
  jobId: string;
  keys?: boolean;
  json?: boolean;
}

/** In this order; the copies of user-data and what is not text are only named. */
const PRINTED = ['context.sh', 'user-data', 'meta-data', 'network-config', 'prolog.sh', 'epilog.sh'];

export async function main(argv: string[]): Promise<number> {
  const program = new Command('vmbatch context').exitOverride().description('the context disk of a guest');
  program
    .command('build')
    .description('show, and write if asked to, the context disk that a batch script would get on this node')
    .requiredOption('--script <FILE>', 'the batch script, with its #PBS and #VMBATCH lines')
    .option('--out <ISO>', 'write the disk there as an ISO 9660 image, readable by you alone')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .option('--queue <NAME>', "the job's queue; default: what the script says, else the node's first")
    .option('--user <NAME>', "the job's user; default: the script's owner")
    .option('--job-id <ID>', 'the id that the job would have', '1.example')
    .option('--keys', 'make real keys and show them; otherwise words stand in their places')
    .option('--json', 'one JSON object with the text of each file')
    .action(async (options: Options) => {
      const { files } = await previewGuest({
        script: options.script,
        configFile: options.config,
        queue: options.queue,
        user: options.user,
        jobId: options.jobId,
        keys: options.keys ?? false,
        say,
      });
      process.stdout.write(options.json === true ? asJson(files) : asText(files));
      if (options.out === undefined) return;
      const modified = options.keys === true ? new Date() : new Date(0);
      const iso = buildIso(files, { volumeLabel: 'cidata', modified });
      writeFileAtomic(resolve(options.out), iso, 0o600);
      const secret =
        options.keys === true ? 'with real keys' : 'with words in place of keys (--keys makes real ones)';
      say(`wrote ${options.out}: ${iso.length} bytes, ${secret}`);
    });
  await program.parseAsync(argv, { from: 'user' });
  return 0;
}

/** What is assumed goes to stderr: stdout is what was asked for. */
function say(line: string): void {
  process.stderr.write(`vmbatch: ${line}\n`);
}

const textOf = ({ data }: IsoFile) => (typeof data === 'string' ? data : Buffer.from(data).toString('utf8'));

function asText(files: readonly IsoFile[]): string {
  const printed = PRINTED.flatMap((path) => files.filter((file) => file.path === path));
  const others = files.filter((file) => !printed.includes(file));
  return [
    ...printed.map((file) => `==> ${file.path} <==\n${textOf(file)}\n`),
    '==> the other files, with their sizes <==\n',
    ...others.map(({ path, data }) => `${String(data.length).padStart(8)} ${path}\n`),
  ].join('');
}

function asJson(files: readonly IsoFile[]): string {
  return `${JSON.stringify(Object.fromEntries(files.map((file) => [file.path, textOf(file)])), undefined, 2)}\n`;
}
