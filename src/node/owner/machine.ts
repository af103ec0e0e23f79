// Which machine this is, and whether a description of one is of this very machine.
import { readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** What tells one machine from others. Nothing of it is enough by itself: clones share a machine-id, a
 * diskless node gets a new one at each start, and names change. */
export interface Machine {
  /** The host name; undefined: it has none of its own yet. */
  name?: string | undefined;
  /** systemd's machine-id; undefined: there is none. */
  id?: string | undefined;
  /** Which start of the machine this is. */
  boot: string;
  /** The mainboard's UUID and the addresses of the network cards, as far as we may see them. */
  hardware: string[];
}

/** How a description and this machine compare. `other` says why. */
export type Comparison = { is: 'same' } | { is: 'other'; why: string };

type Match = 'same' | 'different' | 'unknown';

/** UUIDs that whole series of mainboards have in common. */
const COMMON_UUID = /^(0{8}-|f{8}-|03000200-0400-0500-0006-000700080009|12345678-)/;

/** This machine.
 * @param root for tests: where `etc`, `proc` and `sys` are
 * @param name for tests */
export function thisMachine(root = '/', name = hostname()): Machine {
  const read = (path: string) => {
    try {
      return readFileSync(join(root, path), 'latin1').trim().toLowerCase();
    } catch {
      return '';
    }
  };
  const id = read('etc/machine-id');
  const uuid = read('sys/class/dmi/id/product_uuid');
  return {
    ...(/^(localhost(\.localdomain)?|\(none\)|)$/i.test(name) ? {} : { name: name.toLowerCase() }),
    // "uninitialized" stands there before the first start.
    ...(/^[0-9a-f]{32}$/.test(id) && !/^0+$/.test(id) ? { id } : {}),
    boot: read('proc/sys/kernel/random/boot_id'),
    hardware: [
      ...(/^[0-9a-f-]{36}$/.test(uuid) && !COMMON_UUID.test(uuid) ? [`uuid ${uuid}`] : []),
      ...networkCards(root, read),
    ],
  };
}

/** Addresses of cards that are there as devices: bridges and the interfaces of guests come and go. */
function networkCards(root: string, read: (path: string) => string): string[] {
  const directory = 'sys/class/net';
  let names: string[];
  try {
    names = readdirSync(join(root, directory));
  } catch {
    return [];
  }
  return names
    .filter((name) => {
      const type = read(join(directory, name, 'addr_assign_type'));
      return type === '0' && read(join(directory, name, 'device/uevent')) !== '';
    })
    .map((name) => read(join(directory, name, 'address')))
    .filter((address) => /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(address) && !/^[0:]+$/.test(address))
    .map((address) => `card ${address}`)
    .sort();
}

/** Whether `known` is a description of the machine `here`. In doubt it is another one.
 *
 * The same name and the same machine-id are the same machine. If one of them differs, the hardware decides,
 * and only after another start: a machine that runs changes neither. */
export function compareMachines(known: Machine, here: Machine): Comparison {
  const names = compareNames(known.name, here.name);
  const ids = compareIds(known.id, here.id);
  const hardware = compareHardware(known.hardware, here.hardware);
  const other = (why: string): Comparison => ({ is: 'other', why });
  const same: Comparison = { is: 'same' };
  if (names === 'same' && ids !== 'different') return same;
  if (names === 'unknown' && ids === 'same' && hardware !== 'different') return same;
  const hasChanged = hardware === 'same' && known.boot !== here.boot;
  // A diskless node with a new machine-id, or one that was installed anew.
  if (names === 'same') return hasChanged ? same : other('the machine-id is another');
  if (names === 'different') return ids === 'same' && hasChanged ? same : other('the host name is another');
  return hardware === 'same' && (ids === 'unknown' || hasChanged)
    ? same
    : other('neither the host name nor the machine-id says that it is the same machine');
}

/** `wn1` and `wn1.example.org` are one name. */
function compareNames(known: string | undefined, here: string | undefined): Match {
  if (known === undefined || here === undefined) return 'unknown';
  const isSame = known === here || known.startsWith(`${here}.`) || here.startsWith(`${known}.`);
  return isSame ? 'same' : 'different';
}

function compareIds(known: string | undefined, here: string | undefined): Match {
  if (known === undefined || here === undefined) return 'unknown';
  return known === here ? 'same' : 'different';
}

/** Cards are replaced, and UUIDs are not for everybody to see: one mark of a kind in common is enough, unless
 * another kind differs. */
function compareHardware(known: readonly string[], here: readonly string[]): Match {
  const kinds = ['uuid ', 'card '].map((kind): Match => {
    const [before, now] = [known, here].map((marks) => marks.filter((mark) => mark.startsWith(kind)));
    if (before === undefined || now === undefined || before.length === 0 || now.length === 0)
      return 'unknown';
    return now.some((mark) => before.includes(mark)) ? 'same' : 'different';
  });
  if (kinds.includes('different')) return 'different';
  return kinds.includes('same') ? 'same' : 'unknown';
}

/** `wn1 (machine-id 0123…)`, for messages. */
export function describeMachine({ name, id }: Machine): string {
  return `${name ?? 'a machine without a name'} (${id === undefined ? 'no machine-id' : `machine-id ${id}`})`;
}
