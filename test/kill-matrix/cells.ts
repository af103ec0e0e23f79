// The cells of the kill matrix, made from the table of steps: a new step is in it without anybody
// remembering.

import { STEPS } from '../../src/node/life/steps/table.ts';
import type { StepName } from '../../src/node/record.ts';

export const ACTORS = ['prologue', 'starter', 'epilogue', 'reaper'] as const;
type Actor = (typeof ACTORS)[number];

/** `volatile`: the machine loses power: its processes, its guests, and what was not yet on its disk. */
export const EVENTS = ['SIGKILL', 'SIGTERM', 'volatile', 'libvirtd-gone', 'disk-full', 'share-hung'] as const;
export type Event = (typeof EVENTS)[number];

/** `during`: after the first effect of the step on the world outside its process. */
export const PHASES = ['before', 'during', 'after'] as const;
export type Phase = (typeof PHASES)[number];

export interface Cell {
  actor: Actor;
  step: StepName;
  phase: Phase;
  event: Event;
  /** Which effect of the step `during` means, the first being 1. */
  effect: number;
}

/** Those events that end the process that they meet. */
export function endsProcess(event: Event): boolean {
  return event === 'SIGKILL' || event === 'SIGTERM' || event === 'volatile';
}

/** Every step × phase × event × actor. */
export function allCells(): Cell[] {
  return STEPS.flatMap(({ name: step }) =>
    ACTORS.flatMap((actor) =>
      EVENTS.flatMap((event) => PHASES.map((phase): Cell => ({ actor, step, phase, event, effect: 1 }))),
    ),
  );
}

export function describeCell({ actor, step, phase, event, effect }: Cell): string {
  return `${event} to the ${actor} ${phase}${effect > 1 ? ` (effect ${effect})` : ''} ${step}`;
}

/** With what the prologue may end in TORQUE's eyes when the event meets it there: an exit code, or a signal.
 *
 * 1: the job was deleted; 2: not on this node; 0: the guest is there. TORQUE takes a signal for success. */
export function prologueEnds({ step, phase, event }: Cell): (number | string)[] {
  const at = STEPS.findIndex(({ name }) => name === step);
  const isAfter = (name: StepName) => {
    const other = STEPS.findIndex((candidate) => candidate.name === name);
    return at > other || (at === other && phase === 'after');
  };
  switch (event) {
    case 'SIGKILL':
    case 'volatile':
      return ['SIGKILL'];
    case 'SIGTERM':
      // A signal that comes when all is done comes too late.
      return isAfter('boot') || phase === 'during' ? [1, 0] : [1];
    case 'libvirtd-gone':
      return isAfter('domain') ? [0] : step === 'domain' && phase === 'during' ? [0, 2] : [2];
    case 'disk-full':
      return [2];
    case 'share-hung':
      return isAfter('boot') ? [0] : step === 'boot' && phase === 'during' ? [0, 2] : [2];
  }
}
