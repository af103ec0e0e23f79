// How a chunk becomes a function, for the build that compiles it and for the program that runs it: V8 takes
// the one's work only for exactly the other's source.

const HEAD = '(function (exports, require, module, __filename, __dirname) {';

/** What the head moves the chunk's first line to the right by. */
export const HEAD_LENGTH = HEAD.length;

/** @param {string} text the chunk's */
export const chunkSource = (text) => `${HEAD}${text}\n})`;

/** Where the compiled form of a chunk is: one for each Node, since another one's is of no use.
 * @param {string} file the chunk's path */
export const compiledPath = (file) => `${file}.${process.version}-${process.arch}`;
