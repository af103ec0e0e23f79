// A process of the kill matrix that is struck.
//   actor.cjs DIRECTORY CELL-AS-JSON
import { join } from 'node:path';
import { loadCompiledChunk } from '../../src/util/program/compiled-chunk.ts';

loadCompiledChunk(join(__dirname, 'struck.cjs'))
  .main(process.argv.slice(2))
  .then((code) => {
    process.exitCode = code;
  });
