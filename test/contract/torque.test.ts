// The contract: what the recordings say TORQUE 6.1 does, asked of the stand-in, or with VMBATCH_TORQUE=1 of
// the TORQUE on PATH (as root, on a machine that may be played with: hooks and the configuration of its mom
// are replaced meanwhile).
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { Batch, real } from './batch.ts';
import { endingsContract } from './endings.ts';
import { hooksContract } from './hooks.ts';
import { jobsContract } from './jobs.ts';
import { listingsContract } from './listings.ts';
import { momLogContract } from './mom-log.ts';
import { submissionContract } from './submission.ts';

const isRoot = process.getuid?.() === 0;

describe.runIf(isRoot)(
  `the contract of ${real ? 'TORQUE' : 'the stand-in'}`,
  { timeout: real ? 240_000 : 20_000 },
  () => {
    let opened: Batch | undefined;
    const batch = (): Batch => {
      if (opened === undefined) throw new Error('the batch system was not opened');
      return opened;
    };

    beforeAll(async () => {
      opened = await Batch.open();
    }, 60_000);

    afterAll(async () => {
      const left = (await opened?.close()) ?? [];
      expect(left, 'sessions still running at the end').toEqual([]);
    }, 60_000);

    afterEach(async ({ task }) => {
      if (task.result?.state !== 'fail') return;
      await batch().clear();
      await batch().reset();
    });

    hooksContract(batch);
    jobsContract(batch);
    endingsContract(batch);
    momLogContract(batch);
    submissionContract(batch);
    listingsContract(batch);
  },
);
