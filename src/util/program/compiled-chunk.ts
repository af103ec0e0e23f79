// Loads a command that the build compiled beforehand (V8's code cache): compiling it at each start costs 5
// ms, as much as a quarter of Node's own start. Any other Node than the build's compiles it itself.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Script } from 'node:vm';
import { errnoOf } from '../errors.ts';
import { chunkSource, compiledPath, HEAD_LENGTH } from './chunk-source.mjs';

interface CommandModule {
  main: (argv: string[]) => Promise<number>;
}

/** @param file path of a chunk that is a command */
export function loadCompiledChunk(file: string): CommandModule {
  return load(file) as CommandModule;
}

const loaded = new Map<string, unknown>();

/** The chunk's exports; what it needs of its neighbours is loaded in the same way. */
function load(file: string): unknown {
  if (loaded.has(file)) return loaded.get(file);
  const require = createRequire(file);
  const cachedData = readIfThere(compiledPath(file));
  if (cachedData === undefined) return require(file);
  const directory = file.slice(0, file.lastIndexOf('/'));
  // As latin1: chunks are plain ASCII, and that is read fastest.
  // V8 looks whether the data is its own, and compiles the source if it is not.
  const script = new Script(chunkSource(readFileSync(file, 'latin1')), {
    filename: file,
    columnOffset: -HEAD_LENGTH,
    cachedData,
  });
  const module = { exports: {} };
  const nearby = (id: string) => (id.startsWith('./') ? load(`${directory}/${id.slice(2)}`) : require(id));
  script.runInThisContext()(module.exports, nearby, module, file, directory);
  loaded.set(file, module.exports);
  return module.exports;
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
