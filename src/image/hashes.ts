// SHA-256 of the files of images, and the memory of them: a file of gigabytes is read once, and again when it
// has changed.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { VmbatchError } from '../util/errors.ts';
import { readForeignFile, writeFileAtomic } from '../util/files/files.ts';
import { type FileState, isAsItWas, stateOf } from './chain.ts';

const MEMORY = z.object({
  version: z.literal(1),
  files: z.array(
    z.object({
      path: z.string(),
      size: z.number(),
      mtimeMs: z.number(),
      inode: z.number(),
      sha256: z.string(),
    }),
  ),
});
type Known = FileState & { sha256: string };

const MAX_BYTES = 1024 * 1024;
/** Of files that are in no node file any more, the oldest are forgotten. */
const MOST = 500;

const memoryFile = (state: string) => join(state, 'hashes.json');

/** Lower-case hexadecimal SHA-256 of a file, of whatever size. */
export async function sha256Of(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const options = { highWaterMark: 1024 * 1024, ...(signal === undefined ? {} : { signal }) };
  for await (const chunk of createReadStream(path, options)) hash.update(chunk);
  return hash.digest('hex');
}

/** The SHA-256 that a file had when it was last read, if it has not changed since; undefined: nobody has
 * looked. */
export function rememberedSha256(state: string, path: string): string | undefined {
  const known = readMemory(state).find((file) => file.path === path);
  return known !== undefined && isAsItWas(known) ? known.sha256 : undefined;
}

/** Reads a file, and remembers what it is.
 * @param state where it is remembered; undefined: nowhere
 * @throws VmbatchError `node` (`image-changed`): it was written to meanwhile */
export async function lookAtSha256(
  state: string | undefined,
  path: string,
  signal?: AbortSignal,
): Promise<string> {
  const before = stateOf(path);
  const sha256 = await sha256Of(path, signal);
  if (before === undefined || !isAsItWas(before))
    throw new VmbatchError({
      fault: 'node',
      code: 'image-changed',
      message: `${path} was written to while it was read`,
      hint: 'try again once it is complete',
    });
  if (state !== undefined) remember(state, { ...before, sha256 });
  return sha256;
}

function remember(state: string, file: Known): void {
  const files = [...readMemory(state).filter(({ path }) => path !== file.path), file].slice(-MOST);
  writeFileAtomic(memoryFile(state), `${JSON.stringify({ version: 1, files })}\n`, 0o644);
}

/** What cannot be read is forgotten: it costs reading the images again. */
function readMemory(state: string): Known[] {
  try {
    const content = readForeignFile(memoryFile(state), { maxBytes: MAX_BYTES, ownerUid: 0 }, 'node');
    return content === undefined ? [] : MEMORY.parse(JSON.parse(content.toString('utf8'))).files;
  } catch {
    return [];
  }
}
