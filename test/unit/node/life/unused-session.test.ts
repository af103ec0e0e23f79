import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Outcome } from '../../../../src/guest/session/session-file.ts';
import { sessionPaths } from '../../../../src/guest/session/session-file.ts';
import { readGuard } from '../../../../src/node/guard/state.ts';
import { noteFault, noteSuccess } from '../../../../src/node/guard/watch.ts';
import { type FakeNode, fakeNode, leftOn } from '../../../support/fake-node.ts';

const JOB = '7.server';
let node: FakeNode;

beforeEach(async () => {
  node = await fakeNode();
});
afterEach(() => node.remove());

/** Starts a guest and ends its job; what the epilogue makes of it. */
async function endUnused(options: Parameters<FakeNode['end']>[1] = {}): Promise<Outcome | undefined> {
  let seen: Outcome | undefined;
  await node.start(JOB);
  await node.end(JOB, {
    isUnused: true,
    onEnd: async (_record, outcome) => {
      seen = outcome;
    },
    ...options,
  });
  return seen;
}

const history = () => readFileSync(join(node.config.state, 'history.jsonl'), 'utf8');

describe.runIf(process.geteuid?.() === 0)('a job that did not use its guest', () => {
  it.each<[number, RegExp]>([
    [0, /did not run in its guest \(exit status 0\): the mom started it without the job starter/],
    [7, /exit status 7/],
    [1, /Node could not load vmbatch/],
    [126, /cannot be executed/],
    [127, /is not there/],
    [254, /the mom could not execute the job starter/],
  ])('is an error, and a fault of the node, when it ended with %d', async (exitStatus, message) => {
    let told = '';
    const tell = (text: string) => {
      told += text;
    };
    const outcome = await endUnused({ exitStatus, tell });
    expect(outcome).toMatchObject({ fault: 'node', code: 'starter-unused' });
    expect(outcome?.message).toMatch(message);
    expect(node.logged.find((line) => line.startsWith('error: '))).toMatch(message);
    expect(told).toContain('this job did not run in its guest');
    expect(history()).toContain('"starter-unused"');
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('is told what is wrong with the starter, where that can be seen', async () => {
    const lookAtStarter = async () => 'config has no $job_starter';
    expect((await endUnused({ exitStatus: 127, lookAtStarter }))?.message).toMatch(
      /: config has no \$job_starter$/,
    );
  });

  it.each([
    ['was deleted', { exitStatus: 271 }],
    ['was killed', { exitStatus: 265 }],
    ['ran out of time', { exitStatus: -11 }],
    ['was lost with its mom', { exitStatus: -3 }],
    ['was never started', { exitStatus: 0, hook: undefined }],
  ])('is nothing to wonder about when it %s', async (what, { exitStatus }) => {
    if (what === 'was never started') {
      await node.start(JOB);
      let seen: unknown = 'not told';
      const hook = { jobId: JOB, user: 'nobody', group: 'nogroup', jobName: 'job', queue: 'vmalice' };
      await node.end(JOB, {
        isUnused: true,
        hook: { ...hook, resources: '', script: '', exitStatus: 0, session: 0 },
        onEnd: async (_record, outcome) => {
          seen = outcome;
        },
      });
      expect(seen).toBeUndefined();
    } else expect(await endUnused({ exitStatus })).toBeUndefined();
    expect(node.logged.filter((line) => line.startsWith('error: '))).toEqual([]);
  });

  it('is not said of a starter that came no further than its first word', async () => {
    await node.start(JOB);
    writeFileSync(sessionPaths(node.config.state, JOB).outcome, '{"version":1}');
    await node.end(JOB, { exitStatus: 134 });
    expect(node.logged.filter((line) => line.startsWith('error: '))).toEqual([]);
  });

  it('is not forgotten by the guard because guests start, but because a job ran in one', async () => {
    const { state, guard } = node.config;
    const log = { write: () => undefined, close: async () => undefined };
    const run = () => expect.fail('nothing is to be run yet');
    const fault = (jobId: string, code: string) =>
      noteFault(
        { state, settings: { ...guard, faults: 9 }, images: 1, node: 'wn1', run, log },
        { jobId, image: undefined, error: { code, message: 'x' } },
      );
    const codes = () => readGuard(state).faults.map(({ code }) => code);
    await node.start(JOB);
    await fault('1.vm', 'starter-unused');
    await fault('2.vm', 'guest-not-ready');
    await noteSuccess({ state, log }, 'start');
    expect(codes()).toEqual(['starter-unused']);
    await fault('2.vm', 'guest-not-ready');
    await noteSuccess({ state, log }, 'run');
    expect(codes()).toEqual(['guest-not-ready']);
    await noteSuccess({ state, log });
    expect(codes()).toEqual([]);
    await node.end(JOB);
  });
});
