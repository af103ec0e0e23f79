// Builds build/bench/: the benchmarks of `npm run bench`.
import { join } from 'node:path';
import { compileChunk } from '../../scripts/compile-chunk.mjs';
import { bundle, WITHOUT_SSH2 } from '../tools/bundle.mjs';

const entries = {
  bench: 'test/bench/main.ts',
  'iso-first': 'test/bench/iso-first.ts',
  'iso-start': 'test/bench/iso-start.ts',
};
await bundle('bench', entries, WITHOUT_SSH2);
compileChunk(join(import.meta.dirname, '../../build/bench/iso-first.cjs'));
