// `npm run fuzz`: every parser of foreign text, for as long as is wished.
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const HELP = `usage: npm run fuzz -- [--seconds N] [--seed S] [--only NAME]

Feeds every parser of text that is not ours with what is nearly right and what is nothing like it, for N seconds in all (default 60).
None may throw anything but an error that says whose fault it is, take longer than two seconds for 64 KiB, or need more memory than
256 MiB. Exit code: 0 nothing found, 1 something, 2 usage.
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      only: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  if (values.help || !(seconds > 0) || !Number.isInteger(seed)) {
    process.stdout.write(HELP);
    return values.help ? 0 : 2;
  }
  const targets = TARGETS.filter(({ name }) => values.only === undefined || name === values.only);
  process.stdout.write(`seed ${seed}\n`);
  const table = new Table({ head: ['parser', 'whose text', 'inputs', ''], style: { head: [], border: [] } });
  let failures = 0;
  for (const target of targets) {
    const { runs, failure } = await fuzz(target, seed, (seconds * 1000) / targets.length);
    table.push([target.name, target.from, runs, failure === undefined ? 'ok' : 'FAILED']);
    if (failure === undefined) continue;
    failures++;
    process.stdout.write(`${target.name}: ${failure}\n`);
  }
  process.stdout.write(`${table.toString()}\nparsers ${targets.length} failures ${failures}\n`);
  return failures === 0 ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${HELP}`);
    process.exitCode = 2;
  },
);
