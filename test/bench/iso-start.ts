// Starts iso-first.ts as the program starts a prologue.
import { join } from 'node:path';
import { loadCompiledChunk } from '../../src/util/program/compiled-chunk.ts';

void loadCompiledChunk(join(import.meta.dirname, 'iso-first.cjs')).main(process.argv.slice(2));
