// Whether the image of a guest that is about to start is what the node file says.
import type { ImageConfig } from '../../node-file/config.ts';
import type { Log } from '../../util/log.ts';
import { mustClaimJob } from '../claim.ts';

/** With its SHA-256 in the node file an image is read once on each node, and again when it or what it stands
 * on has changed.
 * @throws VmbatchError `node`: `image-changed`, `image-chain`, `image-unread` */
export async function verifyInTime(
  image: ImageConfig,
  state: string,
  { signal, log }: { signal: AbortSignal; log: Log },
  remainingMs: () => number,
): Promise<void> {
  if (image.sha256 === undefined && image.backing === undefined) return;
  const { knownHashes, mustBeGood } = await import('../../image/catalogue/verify.ts');
  if (knownHashes(state, image) === 'good') return;
  log.write(
    'info',
    `reading image ${image.name}: this node does not know its SHA-256 yet, or it has changed`,
  );
  // One start reads; the others find it done.
  const release = await mustClaimJob(state, `image-${image.name}`, remainingMs(), signal);
  try {
    // A guest must still have time to boot.
    const late = AbortSignal.timeout(Math.max(1_000, Math.round(remainingMs() / 2)));
    await mustBeGood(state, image, AbortSignal.any([signal, late]));
  } finally {
    release();
  }
}
