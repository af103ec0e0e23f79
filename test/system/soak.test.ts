// The soak in small: two hundred grid jobs, one in twenty with something going wrong.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FAULTS } from '../soak/plan.ts';

const project = new URL('../..', import.meta.url).pathname;

it.runIf(process.getuid?.() === 0)(
  'two hundred jobs, whatever goes wrong with some: each has one lrms_done with the right code, and nothing is left',
  () => {
    const seed = String(Date.now() % 1_000_000);
    const run = spawnSync(
      process.execPath,
      [join(project, 'build/site/soak.cjs'), '--jobs', '200', '--seed', seed, '--minutes', '18', '--json'],
      { encoding: 'utf8' },
    );
    const report = JSON.parse(run.stdout.trim() || '{}') as Record<string, unknown>;
    expect(report, `seed ${seed}: ${run.stderr}`).toMatchObject({
      jobs: 200,
      notRun: 0,
      wrong: [],
      left: [],
    });
    const { kinds, scanMemory } = report as {
      kinds: Record<string, { jobs: number }>;
      scanMemory: { early: number; late: number };
    };
    expect(Object.keys(kinds).toSorted()).toEqual(['none', ...FAULTS].toSorted());
    // KiB; what it keeps of jobs that are gone would show.
    expect(scanMemory.late).toBeLessThan(scanMemory.early * 1.5);
    expect(run.status).toBe(0);
  },
  1_200_000,
);
