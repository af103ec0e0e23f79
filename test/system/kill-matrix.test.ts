// The whole kill matrix: fake hypervisor, real files, real processes.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { STEP_NAMES } from '../../src/node/record.ts';
import { ACTORS, EVENTS, PHASES } from '../kill-matrix/cells.ts';

const project = new URL('../..', import.meta.url).pathname;

it.runIf(process.getuid?.() === 0)(
  'whatever is killed or taken away at whatever step, epilogue and reaper leave nothing, and TORQUE sees the right end',
  () => {
    execFileSync(process.execPath, [join(project, 'test/kill-matrix/build.mjs')]);
    const run = spawnSync(process.execPath, [join(project, 'build/kill-matrix/kill-matrix.cjs'), '--json'], {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    const [json = '', last = ''] = run.stdout.trim().split('\n');
    const { cells, failed } = JSON.parse(json) as { cells: number; failed: unknown[] };
    expect(failed).toEqual([]);
    const least = STEP_NAMES.length * PHASES.length * EVENTS.length * ACTORS.length;
    expect(cells).toBeGreaterThanOrEqual(least);
    expect(last).toBe(`cells ${cells} leaks 0`);
    expect(run.status).toBe(0);
  },
  1_800_000,
);
