import { expect, it } from 'vitest';
import { hookNumbers } from '../../standin/mom/spec.ts';

// From setup_pelog_environment of TORQUE's prolog.c: wrong numbers, and that is the point.
it.each([
  ['1', '1', '1'],
  ['1:ppn=4', '1', '4'],
  ['node7:ppn=4', '0', '1'],
  ['2:ppn=2', '2', '2'],
  ['1:ppn=2+1:ppn=4', '2', '2'],
  ['1:ppn=2+node7:ppn=4', '1', '2'],
  ['1:ib+1:ppn=4', '2', '4'],
])('hooks are told of nodes=%s: %s nodes, ppn %s', (nodes, count, ppn) => {
  expect(Object.fromEntries(hookNumbers(nodes, 9))).toEqual({
    PBS_NP: '9',
    PBS_NUM_NODES: count,
    PBS_NUM_PPN: ppn,
  });
});
