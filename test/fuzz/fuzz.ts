// Feeds a parser with what is nearly right, and with what is nothing like it; and says what must never
// happen.
import fc from 'fast-check';
import type { Target } from './targets.ts';

/** Milliseconds that a parser may take for one input. */
const MOST_MS = 2_000;
/** Inputs are at most so long; parsers have bounds of their own for what they read. */
const MOST_BYTES = 64 * 1024;

/** Bytes with which formats begin and end things. */
const MARKS = [
  '\n',
  '\0',
  '\r',
  '"',
  "'",
  '\\',
  '=',
  '[',
  ']',
  '{',
  '}',
  '<',
  '>',
  '&',
  '%',
  '$',
  '`',
  ';',
  ' ',
  '\t',
  '#',
  '\u00ff',
];
const WORDS = [
  'joboption_',
  '<Job>',
  '</Job>',
  '&#x0;',
  '<![CDATA[',
  '<!DOCTYPE',
  '__proto__',
  'constructor',
  '-1',
  '1e999',
  '9'.repeat(400),
  '\u2028',
  '*a',
  '&a',
  '<<:',
  '!!js',
  '../',
  '$(id)',
  'null',
  '[[[[[[[[',
];

type Change =
  | { kind: 'insert'; at: number; text: string; times: number }
  | { kind: 'cut'; at: number; length: number }
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'copy'; at: number; length: number; to: number };

const place = () => fc.double({ min: 0, max: 1, noNaN: true });
const change = (): fc.Arbitrary<Change> =>
  fc.oneof(
    fc.record({
      kind: fc.constant('insert' as const),
      at: place(),
      text: fc.oneof(fc.constantFrom(...MARKS, ...WORDS), fc.string({ unit: 'binary', maxLength: 8 })),
      times: fc.oneof(
        { weight: 8, arbitrary: fc.constant(1) },
        { weight: 1, arbitrary: fc.integer({ min: 2, max: 5000 }) },
      ),
    }),
    fc.record({ kind: fc.constant('cut' as const), at: place(), length: fc.nat(200) }),
    fc.record({ kind: fc.constant('flip' as const), at: place(), bit: fc.nat(7) }),
    fc.record({ kind: fc.constant('copy' as const), at: place(), length: fc.nat(500), to: place() }),
  );

function apply(input: Buffer, each: Change): Buffer {
  const at = Math.floor(each.at * input.length);
  switch (each.kind) {
    case 'insert':
      return Buffer.concat([
        input.subarray(0, at),
        Buffer.from(each.text.repeat(each.times)),
        input.subarray(at),
      ]);
    case 'cut':
      return Buffer.concat([input.subarray(0, at), input.subarray(at + each.length)]);
    case 'flip': {
      const copy = Buffer.from(input);
      if (copy.length > 0) copy[at % copy.length] = (copy[at % copy.length] ?? 0) ^ (1 << each.bit);
      return copy;
    }
    case 'copy': {
      const to = Math.floor(each.to * input.length);
      return Buffer.concat([input.subarray(0, to), input.subarray(at, at + each.length), input.subarray(to)]);
    }
  }
}

function inputs(target: Target): fc.Arbitrary<Buffer> {
  const examples = target.examples();
  const changed = fc
    .tuple(fc.constantFrom(...examples), fc.array(change(), { maxLength: 6 }))
    .map(([example, changes]) => changes.reduce(apply, example));
  const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc
    .oneof({ weight: 6, arbitrary: changed }, { weight: 1, arbitrary: random })
    .map((input) => input.subarray(0, MOST_BYTES));
}

export interface FuzzResult {
  target: string;
  runs: number;
  /** What went wrong, with what to run it again; undefined: nothing. */
  failure: string | undefined;
}

/** Milliseconds of one run.
 * @throws what the parser should never throw */
async function timeOf(target: Target, input: Buffer): Promise<number> {
  const begun = performance.now();
  try {
    await target.parse(input);
  } catch (error) {
    const isOurs = error instanceof Error && error.name === 'VmbatchError';
    if (!isOurs || (error as { fault?: string }).fault === 'bug') throw error;
  }
  return performance.now() - begun;
}

/** Runs a parser for so long. */
export async function fuzz(target: Target, seed: number, milliseconds: number): Promise<FuzzResult> {
  const property = fc.asyncProperty(inputs(target), async (input) => {
    // A machine that is busy may keep anybody waiting once.
    const took = [];
    do took.push(await timeOf(target, input));
    while (Math.min(...took) > MOST_MS && took.length < 3);
    const least = Math.min(...took);
    if (least > MOST_MS) throw new Error(`took ${Math.round(least)} ms for ${input.length} bytes`);
  });
  const details = await fc.check(property, {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: milliseconds,
    markInterruptAsFailure: false,
  });
  const { failed, numRuns, counterexample, errorInstance } = details;
  if (!failed) return { target: target.name, runs: numRuns, failure: undefined };
  const [input] = counterexample ?? [];
  const shown = input === undefined ? '' : JSON.stringify(input.toString('latin1')).slice(0, 2000);
  const error =
    errorInstance instanceof Error ? (errorInstance.stack ?? errorInstance.message) : String(errorInstance);
  return {
    target: target.name,
    runs: numRuns,
    failure: `${error}\n  with ${shown}\n  again: --seed ${seed} --only ${JSON.stringify(target.name)}`,
  };
}
