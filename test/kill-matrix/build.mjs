// Builds build/kill-matrix/: the matrix of `npm run kill-matrix`, and the process that is struck in it.
import { join } from 'node:path';
import { compileChunk } from '../../scripts/compile-chunk.mjs';
import { bundle, WITHOUT_SSH2 } from '../tools/bundle.mjs';

const entries = { 'kill-matrix': 'test/kill-matrix/main.ts', actor: 'test/kill-matrix/actor.ts' };
await bundle('kill-matrix', entries, WITHOUT_SSH2);
// It is started hundreds of times.
const struck = { ...WITHOUT_SSH2, minify: true, sourcemap: false };
await bundle('kill-matrix', { struck: 'test/kill-matrix/struck.ts' }, struck);
compileChunk(join(import.meta.dirname, '../../build/kill-matrix/struck.cjs'));
