import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { describe, expect, it } from 'vitest';
import { initialVariables, parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';

const CONF = `[common]
hostname=ce.example.org
enable_perflog_reporting=expert-debug-on
perflogdir=/var/log/perf

[lrms]
lrms=vmbatch alice
pbs_bin_path=/opt/torque/bin
pbs_log_path = "/var/spool/torque/server_logs"
benchmark=HEPSPEC 10.5
defaultmemory=1000
movetool=rsync -av
pbs_dedicated_node_string=grid

# a remark
[arex]
controldir=/srv/arex/control
sessiondir=/srv/a
sessiondir=/srv/b
shared_filesystem=no
scratchdir=$TMPDIR
shared_scratch=/mnt/scratch

[queue:alice]
comment=for ALICE
benchmark=HEPSPEC 12.5
benchmark=Si2k 9
defaultmemory=2000
nodememory=64000
pbs_queue_node=virtual:fast

[queue:other]
comment='other'

[custom:vmbatch]
image = 'demo'
images = cernvm-4,alma-9
repositories = alice.cern.ch,sft.cern.ch
max_memory = 16 GiB
memory_overhead = 256 MiB
submit_patience = 90 s
queue = alice image=cernvm-4 max_vcpus=8 max_memory=32GiB
queue = other repositories=other.example.org images=demo
`;

const BASE = '[lrms]\nlrms=vmbatch q\n';

const message = (text: string) => {
  try {
    parseArcConfiguration(text, '/run/arex.cfg');
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'accepted';
};

describe('parseArcConfiguration', () => {
  it('reads the blocks that vmbatch needs, with and without quotes and blanks', () => {
    const configuration = parseArcConfiguration(CONF, '/run/arex.cfg');
    expect(configuration).toMatchObject({
      defaultQueue: 'alice',
      pbsBinPath: '/opt/torque/bin',
      pbsLogPath: '/var/spool/torque/server_logs',
      controlDirectory: '/srv/arex/control',
      gnuTime: '/usr/bin/time',
      hostname: 'ce.example.org',
      sharedFilesystem: false,
      scratchDirectory: '$TMPDIR',
      sharedScratch: '/mnt/scratch',
      moveTool: 'rsync -av',
      dedicatedNodeString: 'grid',
      perflogDirectory: '/var/log/perf',
      submitPatienceMs: 90_000,
      queues: ['alice', 'other'],
    });
  });

  it("takes what a queue's block and line say, then what is said for all", () => {
    const { queue } = parseArcConfiguration(CONF, 'x');
    expect(queue('alice')).toEqual({
      defaultMemory: 2000,
      nodeProperties: ['virtual', 'fast'],
      nodeMemory: 64000,
      benchmark: 'HEPSPEC:12.5',
      image: 'cernvm-4',
      images: ['cernvm-4', 'alma-9'],
      repositories: ['alice.cern.ch', 'sft.cern.ch'],
      maxVcpus: 8,
      maxMemoryBytes: 32 * 1024 ** 3,
      memoryOverheadBytes: 256 * 1024 ** 2,
    });
    expect(queue('other')).toMatchObject({
      defaultMemory: 1000,
      nodeProperties: [],
      nodeMemory: undefined,
      benchmark: 'HEPSPEC:10.5',
      image: 'demo',
      images: ['demo'],
      repositories: ['other.example.org'],
      maxVcpus: undefined,
      maxMemoryBytes: 16 * 1024 ** 3,
    });
    expect(queue(undefined)).toMatchObject({ defaultMemory: 1000, images: ['demo', 'cernvm-4', 'alma-9'] });
  });

  it('accepts the example, which names every key of its own block', () => {
    const example = readFileSync(new URL('../../../../share/examples/arc.conf', import.meta.url), 'latin1');
    const { queue, submitPatienceMs } = parseArcConfiguration(example, 'arc.conf');
    expect(queue('vmalice')).toMatchObject({
      defaultMemory: 2000,
      image: 'disk-image',
      images: ['disk-image', 'demo'],
      repositories: ['alice.cern.ch', 'alice-ocdb.cern.ch'],
      maxVcpus: 8,
      maxMemoryBytes: 8 * 1024 ** 3,
      memoryOverheadBytes: 256 * 1024 ** 2,
    });
    expect(submitPatienceMs).toBe(2_400_000);
  });

  it('has the defaults of ARC, leaves the programs to PATH and the image to the node when nothing is said', () => {
    const configuration = parseArcConfiguration('[lrms]\nlrms=vmbatch\n[common]\nperflogdir=/x\n', 'x');
    expect(configuration).toMatchObject({
      defaultQueue: undefined,
      hostname: hostname(),
      pbsBinPath: undefined,
      sharedFilesystem: true,
      scratchDirectory: undefined,
      moveTool: 'mv',
      nodeNameCommand: '/bin/hostname -f',
      perflogDirectory: undefined,
      submitPatienceMs: 2_400_000,
    });
    expect(configuration.queue('q')).toEqual({
      defaultMemory: undefined,
      nodeProperties: [],
      nodeMemory: undefined,
      benchmark: 'HEPSPEC:1.0',
      image: undefined,
      images: [],
      repositories: [],
      maxVcpus: undefined,
      maxMemoryBytes: undefined,
      memoryOverheadBytes: 128 * 1024 ** 2,
    });
  });

  it.each([
    ['', '/run/arex.cfg: [lrms] lrms is missing; it must be "vmbatch QUEUE"'],
    ['[lrms]\nlrms=pbs main\n', '/run/arex.cfg:2: [lrms] lrms: found "pbs main", must be "vmbatch QUEUE"'],
    [
      '[lrms]\nlrms=vmbatch a b\n',
      '/run/arex.cfg:2: [lrms] lrms: found "vmbatch a b", must be "vmbatch QUEUE"',
    ],
    [
      `${BASE}[custom:vmbatch]\n\nimagse=demo\n`,
      '/run/arex.cfg:5: [custom:vmbatch] has no option "imagse" (did you mean image?); it has: image, images, repositories, max_vcpus, max_memory, memory_overhead, queue, submit_patience',
    ],
    [
      `${BASE}[custom:vmbatch]\nimage=a b\n`,
      '/run/arex.cfg:4: [custom:vmbatch] image: found "a b", must be a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit',
    ],
    [
      `${BASE}[custom:vmbatch]\nimage=a\nimage=b\n`,
      '/run/arex.cfg:5: [custom:vmbatch] image: found "b", must be given once (also in line 4)',
    ],
    [
      `${BASE}[custom:vmbatch]\nmax_memory=4000\n`,
      '/run/arex.cfg:4: [custom:vmbatch] max_memory: found "4000", must be a whole number with KiB, MiB, GiB or TiB, such as "512 MiB"; at least 64 MiB',
    ],
    [
      `${BASE}[custom:vmbatch]\nrepositories=alice.cern.ch;x\n`,
      '/run/arex.cfg:4: [custom:vmbatch] repositories: found "alice.cern.ch;x", must be at most 32 names of CernVM-FS repositories such as alice.cern.ch, with commas and no blanks',
    ],
    [
      `${BASE}[custom:vmbatch]\nsubmit_patience=2 h\n`,
      '/run/arex.cfg:4: [custom:vmbatch] submit_patience: found "2 h", must be a whole number with ms, s, min or h, such as "30 s"; at most 50 min',
    ],
    [
      `${BASE}[queue:alice]\n[custom:vmbatch]\nqueue=alise image=a\n`,
      '/run/arex.cfg:5: [custom:vmbatch] queue: found "alise", must be a queue that has a [queue:NAME] block (did you mean alice?), then key=value ...; there are: alice',
    ],
    [
      `${BASE}[queue:q]\n[custom:vmbatch]\nqueue=q image=a imags=b\n`,
      '/run/arex.cfg:5: [custom:vmbatch] queue q has no option "imags" (did you mean image?); it has: image, images, repositories, max_vcpus, max_memory, memory_overhead',
    ],
    [
      `${BASE}[queue:q]\n[custom:vmbatch]\nqueue=q max_vcpus=0\n`,
      '/run/arex.cfg:5: [custom:vmbatch] queue q: max_vcpus: found "0", must be a whole number from 1 to 9999',
    ],
    [
      `${BASE}[queue:q]\n[custom:vmbatch]\nqueue=q image=a image=b\n`,
      '/run/arex.cfg:5: [custom:vmbatch] queue q: found "image=b", must be image once',
    ],
    [
      `${BASE}[queue:q]\n[custom:vmbatch]\nqueue=q image=a\nqueue=q images=b\n`,
      '/run/arex.cfg:6: [custom:vmbatch] queue: found "q", must be one line for each queue (also in line 5)',
    ],
    [
      `${BASE}[queue:q]\n[custom:vmbatch]\nqueue=q demo\n`,
      '/run/arex.cfg:5: [custom:vmbatch] queue q: found "demo", must be key=value, without blanks in it',
    ],
    [
      `${BASE}movetool=mv; rm\n`,
      '/run/arex.cfg:3: [lrms] movetool: found "mv; rm", must be a command with options, without quotes and other signs that a shell acts upon',
    ],
    [
      `${BASE}[queue:q]\npbs_queue_node=a+4\n`,
      '/run/arex.cfg:4: [queue:q] pbs_queue_node: found "a+4", must be node properties with colons between them',
    ],
    ...['ppn=0', 'ppn=four', '2:ppn=4', 'ppn='].map((value) => [
      `[lrms]\nlrms=vmbatch q\n[queue:q]\npbs_queue_node=${value}\n`,
      `/run/arex.cfg:4: [queue:q] pbs_queue_node: found "${value}", must be node properties and ppn=SLOTS, such as ppn=4:ib, without a number of nodes`,
    ]),
    [
      `${BASE}defaultmemory=2 GB\n`,
      '/run/arex.cfg:3: [lrms] defaultmemory: found "2 GB", must be a whole number (MB)',
    ],
    [
      '[lrms]\nlrms=vmbatch q\npbs_bin_path=bin\n',
      '/run/arex.cfg:3: [lrms] pbs_bin_path: found "bin", must be an absolute path',
    ],
    ['lrms=vmbatch q\n', '/run/arex.cfg:1: line: found "lrms=vmbatch q", must be below a "[block]" line'],
    [
      '[lrms]\nwhat is this\n',
      '/run/arex.cfg:2: line: found "what is this", must be "[block]" or "key = value"',
    ],
    [
      '[lrms]\nlrms=vmbatch q\n[arex]\nshared_filesystem=maybe\n',
      '/run/arex.cfg:4: [arex] shared_filesystem: found "maybe", must be "yes" or "no"',
    ],
  ])('refuses %j, naming file, line and key', (text, expected) => {
    expect(message(text)).toBe(expected);
  });
});

describe('parseArcConfiguration with a report', () => {
  it('names every problem and leaves out what is wrong, and no more than that', () => {
    const problems: string[] = [];
    const configuration = parseArcConfiguration(
      `stray=1
[lrms]
lrms=vmbatch a b
what is this
pbs_bin_path=/opt/torque/bin
pbs_log_path=relative
[custom:vmbatch]
imagess=demo
image=a b
max_vcpus=3
queue=none image=x
`,
      '/run/arex.cfg',
      ({ message: text }) => problems.push(text.split(': ')[0] ?? ''),
    );
    expect(problems.sort()).toEqual([1, 3, 4, 6, 8, 9, 11].map((line) => `/run/arex.cfg:${line}`).sort());
    expect(configuration).toMatchObject({
      pbsBinPath: '/opt/torque/bin',
      pbsLogPath: undefined,
      defaultQueue: undefined,
    });
    expect(configuration.queue('any')).toMatchObject({ image: undefined, maxVcpus: 3 });
  });
});

describe('initialVariables', () => {
  it("names what ARC's job script starts with, and has nothing where ARC has nothing", () => {
    expect(Object.fromEntries(initialVariables(parseArcConfiguration(BASE, 'x')))).toEqual({
      RUNTIME_CONFIG_DIR: '',
      RUNTIME_NODE_SEES_FRONTEND: 'yes',
      RUNTIME_FRONTEND_SEES_NODE: '',
      RUNTIME_LOCAL_SCRATCH_DIR: '',
      RUNTIME_LOCAL_SCRATCH_MOVE_TOOL: 'mv',
      GNU_TIME: '/usr/bin/time',
      NODENAME: '/bin/hostname -f',
    });
    const configured = initialVariables(parseArcConfiguration(CONF, 'x'));
    expect(configured.get('RUNTIME_NODE_SEES_FRONTEND')).toBe('');
    expect(configured.get('RUNTIME_LOCAL_SCRATCH_DIR')).toBe('$TMPDIR');
    expect(configured.get('RUNTIME_FRONTEND_SEES_NODE')).toBe('/mnt/scratch');
  });
});
