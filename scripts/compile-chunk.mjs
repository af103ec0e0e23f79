// V8's code cache of a chunk, made by the build; src/util/program/compiled-chunk.ts loads it.
import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { chunkSource, compiledPath } from '../src/util/program/chunk-source.mjs';

/** Writes the compiled form of a chunk beside it: all of its functions, also those that V8 would only look at
 * when they are called. The flag must be off again when the data is made: V8 takes it only under the flags
 * that it was made with. */
export function compileChunk(file) {
  setFlagsFromString('--no-lazy');
  const script = new Script(chunkSource(readFileSync(file, 'latin1')), { filename: file });
  setFlagsFromString('--lazy');
  writeFileSync(compiledPath(file), script.createCachedData());
}
