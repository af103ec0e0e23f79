// One guest's context, with everything that a context can have.
import type { ContextSite } from '../../../src/context/disk-files.ts';
import type { GuestContext } from '../../../src/context/guest-context.ts';

export const CONTEXT: GuestContext = {
  jobId: '112.server',
  nonce: '00112233445566778899aabb',
  hostname: 'vmbatch-112-server',
  user: {
    name: 'alice',
    uid: 5001,
    group: 'alice',
    gid: 5001,
    groups: [{ name: 'grid', gid: 6000 }],
    home: '/home/alice',
    shell: '/bin/bash',
  },
  network: {
    addressing: 'static',
    address: '10.0.2.15',
    prefixLength: 24,
    gateway: '10.0.2.2',
    dns: ['10.0.2.3'],
  },
  mounts: [{ type: 'nfs4', source: '10.0.2.2:/share', target: '/share', options: ['vers=4.1', 'hard'] }],
  repositories: ['alice.cern.ch', 'sft.cern.ch'],
  readyFile: '/share/.vmbatch/ready/112.server.00112233445566778899aabb',
  hostKey: '-----BEGIN OPENSSH PRIVATE KEY-----\n(a key)\n-----END OPENSSH PRIVATE KEY-----\n',
  authorizedKey: 'ssh-ed25519 AAAA',
  time: 1_795_370_000,
};

export const FULL_CONTEXT: GuestContext = {
  ...CONTEXT,
  network: {
    addressing: 'static',
    address: '192.0.2.7',
    prefixLength: 24,
    gateway: '192.0.2.1',
    address6: { address: '2001:db8::7', prefixLength: 64, gateway: '2001:db8::1' },
    dns: ['192.0.2.53'],
    domain: 'example.org',
    mac: '52:54:00:12:34:56',
  },
  extras: {
    disks: ['vda:root', 'vdb:scratch', 'vdc:cache'],
    scratch: '/scratch',
    cache: { path: '/var/lib/cvmfs', quotaMebibytes: 44 },
    ready: 'file',
    timeZone: 'Europe/Berlin',
    ntp: ['ntp.example.org'],
    cvmfs: { proxy: 'http://squid.example.org:3128;DIRECT', server: undefined },
    beforeJob: true,
    afterJob: true,
    machineFeatures: { total_cpu: 2, hs06: 40 },
    jobFeatures: { allocated_cpu: 2, wall_limit_secs: 3600 },
    peers: {
      rank: 1,
      count: 2,
      directory: '/share/.vmbatch/ready/112.server.guests',
      privateKey: 'a private key\n',
      publicKey: 'ssh-ed25519 BBBB',
    },
  },
};

export const SITE: ContextSite = {
  kind: 'cernvm',
  cvmfs: {
    proxy: 'http://squid.example.org:3128;DIRECT',
    server: 'http://cvmfs.example.org/cvmfs/@fqrn@',
    tag: 'cernvm-4.5',
    organisation: 'alice',
  },
  siteParts: [],
  scripts: {
    prolog: Buffer.from('echo "site prolog $1"; exit 7\n'),
    epilog: Buffer.from('echo "site epilog $1"; exit 8\n'),
    beforeJob: Buffer.from('#!/bin/sh\n'),
    afterJob: Buffer.from('#!/bin/sh\n'),
  },
  service: {
    guest: Buffer.from('echo "service in $VMBATCH_CONTEXT" >started\n'),
    udhcpcScript: Buffer.from('#!/bin/sh\n'),
  },
};
