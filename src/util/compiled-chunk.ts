// Loads a command that the build compiled beforehand (V8's code cache): compiling it at each start costs 5 ms, as much as a
// quarter of Node's own start. Any other Node than the build's compiles it itself.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Script } from 'node:vm';
import { chunkSource, compiledPath, HEAD_LENGTH } from '../chunk-source.mjs';
import { errnoOf } from './errors.ts';

interface CommandModule {
  main: (argv: string[]) => Promise<number>;
}

/** @param file path of a chunk that is a command */
export function loadCompiledChunk(file: string): CommandModule {
  const require = createRequire(file);
  let cachedData: Buffer;
  try {
    cachedData = readFileSync(compiledPath(file));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return require(file);
  }
  // As latin1: chunks are plain ASCII, and that is read fastest.
  // V8 looks whether the data is its own, and compiles the source if it is not.
  const script = new Script(chunkSource(readFileSync(file, 'latin1')), {
    filename: file,
    columnOffset: -HEAD_LENGTH,
    cachedData,
  });
  const module = { exports: {} as CommandModule };
  script.runInThisContext()(module.exports, require, module, file, file.slice(0, file.lastIndexOf('/')));
  return module.exports;
}
