import { describe, expect, it } from 'vitest';
import { parseArcConfiguration } from '../../../src/arc/configuration.ts';

const CONF = `[common]
hostname=ce.example.org

[lrms]
lrms=vmbatch alice
pbs_bin_path=/opt/torque/bin
pbs_log_path = "/var/spool/torque/server_logs"
benchmark=HEPSPEC 10.5

# a remark
[arex]
controldir=/srv/arex/control
sessiondir=/srv/a
sessiondir=/srv/b

[queue:alice]
comment=for ALICE
benchmark=HEPSPEC 12.5

[queue:other]
comment='other'

[custom:vmbatch]
image = 'demo'
`;

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
      image: 'demo',
      queues: ['alice', 'other'],
    });
  });

  it("takes the queue's benchmark, then that of [lrms], then the default", () => {
    const { benchmark } = parseArcConfiguration(CONF, 'x');
    expect([benchmark('alice'), benchmark('other'), benchmark(undefined)]).toEqual([
      'HEPSPEC:12.5',
      'HEPSPEC:10.5',
      'HEPSPEC:10.5',
    ]);
    expect(parseArcConfiguration('[lrms]\nlrms=vmbatch\n', 'x').benchmark('q')).toBe('HEPSPEC:1.0');
  });

  it('leaves the programs to PATH and the image to the node when nothing is said', () => {
    const configuration = parseArcConfiguration('[lrms]\nlrms=vmbatch\n', 'x');
    expect(configuration).toMatchObject({ pbsBinPath: undefined, image: undefined, defaultQueue: undefined });
  });

  it.each([
    ['', '/run/arex.cfg: [lrms] lrms is missing; it must be "vmbatch QUEUE"'],
    ['[lrms]\nlrms=pbs main\n', '/run/arex.cfg:2: [lrms] lrms: found "pbs main", must be "vmbatch QUEUE"'],
    [
      '[lrms]\nlrms=vmbatch a b\n',
      '/run/arex.cfg:2: [lrms] lrms: found "vmbatch a b", must be "vmbatch QUEUE"',
    ],
    [
      '[lrms]\nlrms=vmbatch q\n[custom:vmbatch]\n\nimages=demo\n',
      '/run/arex.cfg:5: [custom:vmbatch] has no option "images"; it has: image',
    ],
    [
      '[lrms]\nlrms=vmbatch q\n[custom:vmbatch]\nimage=a b\n',
      '/run/arex.cfg:4: [custom:vmbatch] image: found "a b", must be a name of an image: [a-z0-9._-], at most 64, the first a letter or digit',
    ],
    [
      '[lrms]\nlrms=vmbatch q\n[custom:vmbatch]\nimage=a\nimage=b\n',
      '/run/arex.cfg:5: [custom:vmbatch] image: found "b", must be given once (also in line 4)',
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
      '[lrms]\nlrms=vmbatch q\n[arex]\nshared_filesystem=no\n',
      '/run/arex.cfg:4: [arex] shared_filesystem: found "no", must be "yes" (session directories are shared)',
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
images=demo
image=a b
`,
      '/run/arex.cfg',
      ({ message: text }) => problems.push(text.split(': ')[0] ?? ''),
    );
    expect(problems.sort()).toEqual([1, 3, 4, 6, 8, 9].map((line) => `/run/arex.cfg:${line}`));
    expect(configuration).toMatchObject({
      pbsBinPath: '/opt/torque/bin',
      pbsLogPath: undefined,
      defaultQueue: undefined,
      image: undefined,
    });
  });
});
