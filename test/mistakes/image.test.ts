// Mistakes with template images: what `check node` says, or the node's log when a job comes.
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync } from 'node:fs';
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'the image is not there',
    plant: ({ remove }) => remove('fake/image.qcow2'),
    look,
    text: [/image fake: .*image\.qcow2 cannot be read \(ENOENT\)/, /correct its path in the node file/],
    exit: 3,
  },
  {
    mistake: 'the image went while jobs come',
    plant: ({ remove }) => remove('fake/image.qcow2'),
    look: logOfAStart(),
    text: /error .*image fake: .*image\.qcow2 cannot be read \(ENOENT\)/,
    exit: 2,
  },
  {
    mistake: 'the image is a directory',
    plant: ({ at, remove }) => {
      remove('fake/image.qcow2');
      mkdirSync(at('fake/image.qcow2'));
    },
    look,
    text: /image fake: .*image\.qcow2 .*directory/,
    exit: 3,
  },
  {
    mistake: 'the image is raw and the node file does not say so',
    plant: ({ write }) => write('fake/image.qcow2', '\0'.repeat(1024)),
    look,
    text: [/image fake: .*image\.qcow2/, /qcow2/],
    exit: 3,
  },
  {
    mistake: 'the image is empty, of a copy that was broken off',
    plant: ({ write }) => write('fake/image.qcow2', ''),
    look,
    text: /image fake: .*image\.qcow2 is empty/,
    exit: 3,
  },
  {
    mistake: 'the image was cut off after its header',
    plant: ({ at }) => truncateSync(at('fake/image.qcow2'), 16),
    look,
    text: [/QEMU cannot open the image .*image\.qcow2: .*Could not/, /fetch it again/],
    exit: 3,
  },
  {
    mistake: 'the image was cut off, and jobs come',
    plant: ({ at }) => truncateSync(at('fake/image.qcow2'), 16),
    look: logOfAStart(),
    text: /error .*QEMU cannot open the image .*image\.qcow2: .*fetch it again/,
    exit: 2,
  },
  {
    mistake: 'the image is qcow2 and the node file says raw',
    plant: ({ configure, at }) =>
      configure({ images: { fake: { path: at('fake/image.qcow2'), format: 'raw' } } }),
    look,
    text: [
      /image fake: .*image\.qcow2 is a qcow2 image, the node file says raw/,
      /correct its format in the node file/,
    ],
    exit: 3,
  },
  {
    mistake: 'the image is a FIFO',
    plant: ({ at, remove }) => {
      remove('fake/image.qcow2');
      execFileSync('mkfifo', [at('fake/image.qcow2')]);
    },
    look,
    text: /image fake: .*image\.qcow2 is neither a file nor a disk/,
    exit: 3,
  },
  {
    mistake: 'the image is a link to nothing',
    plant: ({ at, remove }) => {
      remove('fake/image.qcow2');
      symlinkSync('/images/gone.qcow2', at('fake/image.qcow2'));
    },
    look,
    text: /image fake: .*image\.qcow2 cannot be read \(ENOENT\)/,
    exit: 3,
  },
  {
    mistake: 'what the image stands on is not there',
    plant: ({ at, remove }) => {
      const base = at('base.qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', base, '1M']);
      execFileSync('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        '-F',
        'qcow2',
        '-b',
        base,
        at('fake/image.qcow2'),
      ]);
      remove('base.qcow2');
    },
    look,
    text: /image fake: .*base\.qcow2/,
    exit: 3,
  },
  {
    mistake: 'the kernel of the image is not there',
    plant: ({ configure, at }) =>
      configure({
        images: {
          fake: { path: at('fake/image.qcow2'), boot: { kernel: at('vmlinuz'), initrd: at('initrd.img') } },
        },
      }),
    look,
    text: [/image fake: its kernel .*vmlinuz cannot be read \(ENOENT\)/, /boot\.kernel/],
    exit: 3,
  },
  {
    mistake: 'default_image names an image that is not there',
    plant: ({ configure }) => configure({ default_image: 'fale' }),
    look,
    text: /default_image: found "fale", allowed: fake/,
    exit: 3,
  },
  {
    mistake: 'the image is for another hypervisor',
    plant: ({ configure, at }) =>
      configure({ images: { fake: { path: at('fake/image.qcow2'), hypervisors: ['xen'] } } }),
    look,
    text: /image fake is for xen, and this node has/,
    exit: 3,
  },
  {
    mistake: 'a job asks for an image that the node does not have',
    plant: () => undefined,
    look: logOfAStart('#!/bin/sh\n#VMBATCH image=fke\ntrue\n'),
    text: /warn .*fke.*fake/,
    exit: 1,
  },
];

mistakes('image', useNode('image'), ROWS);
