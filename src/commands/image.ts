// `vmbatch image`: makes the image of the demo guest.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { VmbatchError } from '../util/errors.ts';

const USAGE = `Usage: vmbatch image build-demo [--out DIR] [--force] [--print]

Makes the small Linux guest that the demo and the tests run jobs in, from Debian packages
that are fetched but not installed: DIR/{vmlinuz,initrd.img,template.qcow2,manifest.json}.
Does nothing if the image is up to date.

  --out DIR   where to put it; an existing DIR must hold nothing else.
              Default: $VMBATCH_CACHE/demo-image, and /var/cache/vmbatch/demo-image without it
  --force     build again, with the packages that apt offers now
  --print     print the manifest (JSON) on standard output
`;

const DEFAULT_CACHE = '/var/cache/vmbatch';

export interface ImageOptions {
  help: boolean;
  directory: string;
  force: boolean;
  print: boolean;
}

/** The command line as a type.
 * @param environment for VMBATCH_CACHE.
 * @throws VmbatchError `job` naming what is wrong and what is allowed. */
export function parseImageOptions(argv: string[], environment: NodeJS.ProcessEnv): ImageOptions {
  const refuse = (message: string, cause?: unknown) =>
    new VmbatchError({ fault: 'job', code: 'usage', message, hint: 'see vmbatch image --help', cause });
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    throw refuse(`vmbatch image: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  const { values, positionals } = parsed;
  if (values.help !== true && (positionals.length !== 1 || positionals[0] !== 'build-demo')) {
    const found = positionals.length === 0 ? 'nothing' : `"${positionals.join(' ')}"`;
    throw refuse(`vmbatch image: found ${found} where "build-demo" is expected`);
  }
  if (values.out === '') throw refuse('vmbatch image: --out is empty, it must name a directory');
  const cache = environment['VMBATCH_CACHE'] || DEFAULT_CACHE;
  return {
    help: values.help ?? false,
    directory: values.out ?? join(cache, 'demo-image'),
    force: values.force ?? false,
    print: values.print ?? false,
  };
}

function parse(argv: string[]) {
  return parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      force: { type: 'boolean' },
      print: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

export async function main(argv: string[]): Promise<number> {
  const options = parseImageOptions(argv, process.env);
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { buildDemoImage } = await import('../guest/image/build.ts');
  const { run } = await import('../util/run.ts');
  const started = performance.now();
  // Progress goes to stderr, so that the manifest can be read from a pipe.
  const say = (line: string) => process.stderr.write(`vmbatch image: ${line}\n`);
  const result = await buildDemoImage({
    directory: options.directory,
    force: options.force,
    run,
    progress: say,
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say(result.built ? `${result.directory} built in ${seconds} s` : `${result.directory} is up to date`);
  if (options.print) process.stdout.write(`${JSON.stringify(result.manifest, null, 2)}\n`);
  return 0;
}
