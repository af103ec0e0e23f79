// Builds build/fuzz/: the fuzzer of `npm run fuzz`.
import { bundle, WITHOUT_SSH2 } from '../tools/bundle.mjs';

await bundle('fuzz', { fuzz: 'test/fuzz/main.ts' }, WITHOUT_SSH2);
