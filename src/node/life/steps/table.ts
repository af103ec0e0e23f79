// What a guest is made of, as a table: each step with its undo. Prologue, epilogue and whoever cleans up
// later use the same table.
import { context } from './context.ts';
import { cache, overlay, scratch } from './disks.ts';
import { domain } from './domain.ts';
import { network } from './network.ts';
import { peers } from './peers.ts';
import { boot, readyFile, session } from './ready.ts';
import type { Step } from './step.ts';
import { turn } from './turn.ts';

/** In the order of STEP_NAMES. */
export const STEPS: readonly Step[] = [
  readyFile,
  peers,
  network,
  overlay,
  scratch,
  cache,
  context,
  turn,
  domain,
  boot,
  session,
];
