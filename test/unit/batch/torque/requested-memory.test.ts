import { expect, it } from 'vitest';
import { requestedMemory } from '../../../../src/batch/torque/requested-memory.ts';

const MIB = 1024 ** 2;
const ONE = { here: 1, all: 1 };

it.each([
  ['nodes=1,mem=512mb,neednodes=1', ONE, 512, 'mem=512mb'],
  ['mem=4gb', { here: 2, all: 8 }, 1024, 'mem=4gb'],
  ['pmem=1gb,nodes=1:ppn=4', { here: 4, all: 4 }, 4096, 'pmem=1gb'],
  ['pmem=1gb,mem=2gb', { here: 4, all: 4 }, 2048, 'mem=2gb'],
  ['mem=1048576b', ONE, 1, 'mem=1048576b'],
  ['mem=2048KB', ONE, 2, 'mem=2048KB'],
])("is one node's part of the memory of %s", (resources, slots, mebibytes, said) => {
  expect(requestedMemory(resources, slots)).toEqual({ bytes: mebibytes * MIB, said, isVirtual: false });
});

it.each([
  ['vmem=8gb', { here: 2, all: 4 }, 4096],
  ['pvmem=2gb', { here: 4, all: 4 }, 8192],
])('is a bound where only virtual memory is asked for: %s', (resources, slots, mebibytes) => {
  expect(requestedMemory(resources, slots)).toMatchObject({ bytes: mebibytes * MIB, isVirtual: true });
});

it.each(['', 'nodes=1:ppn=2,walltime=00:30:00', 'mem=', 'mem=lots', 'xmem=1gb', 'mem=0b'])(
  'is nothing for %j',
  (resources) => {
    expect(requestedMemory(resources, ONE)).toBeUndefined();
  },
);
