// What a job asks for with `-l mem=`, `pmem=`, `vmem=` and `pvmem=`, as one node's part of it.
import { parseSize } from './units.ts';

/** Slots of the job on this node, and on all of its nodes. */
export interface Slots {
  here: number;
  all: number;
}

export interface RequestedMemory {
  bytes: number;
  /** For messages: `mem=4gb`. */
  said: string;
  /** Virtual memory: a bound on what processes may map, which is more than they use. */
  isVirtual: boolean;
}

/** `mem` and `vmem` are of the whole job, `pmem` and `pvmem` of each of its processes, of which a slot
 * has one. The first that is there counts: what the job uses, before what it maps.
 * @param resources the resources of a hook's arguments, `nodes=1:ppn=2,mem=512mb`
 * @returns undefined where the job says nothing that can be read */
export function requestedMemory(resources: string, { here, all }: Slots): RequestedMemory | undefined {
  const part = all > 0 ? here / all : 1;
  for (const [name, factor, isVirtual] of [
    ['mem', part, false],
    ['pmem', here, false],
    ['vmem', part, true],
    ['pvmem', here, true],
  ] as const) {
    const text = new RegExp(`(?:^|,)${name}=([0-9a-zA-Z]{1,20})(?:,|$)`).exec(resources)?.[1];
    const kibibytes = parseSize(text);
    if (kibibytes === undefined || kibibytes === 0) continue;
    return { bytes: Math.ceil(kibibytes * factor) * 1024, said: `${name}=${text}`, isVirtual };
  }
  return undefined;
}
