// `vmbatch check ce`: each fault of arc.conf and of what is installed is found and named, with what to do.
import { chmodSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type FakeCe, type Fault, fakeCe, findsFault } from './fake-ce.ts';

let ce: FakeCe;
beforeEach(() => {
  ce = fakeCe();
});
afterEach(() => ce.destroy());

const FAULTS: Fault[] = [
  [
    'the CE still uses pbs',
    'options',
    'failed',
    /arc\.conf:8: \[lrms\] lrms: found "pbs vmalice"/,
    /lrms = vmbatch vmalice.*restart/,
    () => ce.edit('arc.conf', 'lrms=vmbatch', 'lrms=pbs'),
  ],
  [
    'no default queue is named',
    'options',
    'warning',
    /names no default queue/,
    /lrms = vmbatch QUEUE/,
    () => ce.edit('arc.conf', 'lrms=vmbatch vmalice', 'lrms=vmbatch'),
  ],
  [
    'there is no [arex] block',
    'options',
    'failed',
    /no \[arex\] block/,
    /add it/,
    () => ce.edit('arc.conf', '[arex]', '[other]'),
  ],
  [
    'a value that vmbatch uses is filled in by A-REX only',
    'options',
    'warning',
    /pbs_bin_path.*filled in when A-REX starts/,
    /--config \/run/,
    () => ce.edit('arc.conf', /pbs_bin_path=.*/, 'pbs_bin_path=$VAR{[common]hostname}'),
  ],
  [
    'the default queue has no block',
    'queue-block',
    'failed',
    /no \[queue:vmalice\] block; there are: other/,
    /\[queue:vmalice\]/,
    () => {
      ce.edit('arc.conf', '[queue:vmalice]', '[queue:other]');
      ce.edit('arc.conf', 'queue=vmalice', 'queue=other');
    },
  ],
  [
    'an option of ours stands in [lrms]',
    'own-options',
    'failed',
    /arc\.conf:9: \[lrms\] max_vcpus/,
    /\[custom:vmbatch\]/,
    () => ce.edit('arc.conf', 'lrmsconfig=one guest a job', 'max_vcpus=4'),
  ],
  [
    'our block has another name',
    'own-options',
    'failed',
    /nobody reads the block \[vmbatch\]/,
    /\[custom:vmbatch\]/,
    () => ce.edit('arc.conf', '[custom:vmbatch]', '[vmbatch]'),
  ],
  [
    "ARC's validator refuses the file",
    'validator',
    'failed',
    /arc\.conf:10: found unknown parameter x/,
    /does not start/,
    () =>
      ce.write(
        'arc/lib/arc/arc-config-check',
        '#!/bin/sh\necho "[date] [Arc.validator] [ERROR] $2:10: found unknown parameter x" >&2\nexit 1\n',
        0o755,
      ),
  ],
  [
    "ARC's validator is not there",
    'validator',
    'skipped',
    /not installed/,
    /^$/,
    () => ce.remove('arc/lib/arc/arc-config-check'),
  ],
  [
    'the file has all defaults in it already',
    'validator',
    'skipped',
    /validator is for arc\.conf/,
    /^$/,
    () => ce.edit('arc.conf', '[lrms]', '[lrms]\ncondor_bin_path=/usr/bin\nslurm_bin_path=/usr/bin'),
  ],
  [
    'A-REX does not run',
    'running-configuration',
    'warning',
    /A-REX does not run/,
    /arcctl service start/,
    () => ce.remove('run/arex.cfg'),
  ],
  [
    'A-REX was not restarted after a change',
    'running-configuration',
    'warning',
    /still runs with another \[lrms\], \[custom:vmbatch\]/,
    /arcctl service restart/,
    () => {
      ce.edit('run/arex.cfg', 'lrms=vmbatch', 'lrms=pbs');
      ce.edit('arc.conf', 'image=demo\n', '');
    },
  ],
  [
    'jobs are mapped to an account that does not exist',
    'mapped-users',
    'failed',
    /names "no-such-account"/,
    /same ids/,
    () => ce.edit('arc.conf', /map_to_user=.*/, 'map_to_user=all no-such-account:users'),
  ],
  [
    "a file is missing in ARC's data directory",
    'backend-files',
    'failed',
    /share\/arc has no scan-vmbatch-job /,
    /ln -sf .*program\/arc-backend\/\* .*share\/arc\/$/,
    () => ce.remove('arc/share/arc/scan-vmbatch-job'),
  ],
  [
    'a link leads to nothing',
    'backend-files',
    'failed',
    /has no VMBATCHmod\.pm \(or a link to nothing\)/,
    /ln -sf/,
    () => {
      ce.remove('arc/share/arc/VMBATCHmod.pm');
      symlinkSync('/no/such/file', ce.at('arc/share/arc/VMBATCHmod.pm'));
    },
  ],
  [
    'a file is of another installation',
    'backend-files',
    'warning',
    /cancel-vmbatch-job is .*old\/cancel-vmbatch-job, not of this installation/,
    /ln -sf/,
    () => {
      ce.write('old/cancel-vmbatch-job', '#!/bin/sh\n', 0o755);
      ce.remove('arc/share/arc/cancel-vmbatch-job');
      symlinkSync(ce.at('old/cancel-vmbatch-job'), ce.at('arc/share/arc/cancel-vmbatch-job'));
    },
  ],
  [
    'a file was copied and then changed',
    'backend-files',
    'warning',
    /VMBATCHmod\.pm is a copy that differs/,
    /ln -sf/,
    () => {
      ce.remove('arc/share/arc/VMBATCHmod.pm');
      ce.write('arc/share/arc/VMBATCHmod.pm', 'package VMBATCHmod;\n1;\n');
    },
  ],
  [
    'a file cannot be executed',
    'backend-files',
    'failed',
    /cannot enter or execute .*submit-vmbatch-job/,
    /0755/,
    () => chmodSync(ce.at('program/arc-backend/submit-vmbatch-job'), 0o644),
  ],
  [
    'no program is found from there',
    'program',
    'failed',
    /finds no vmbatch program/,
    /vmbatch=/,
    () => ce.remove('program/vmbatch'),
  ],
  [
    'another version is found first',
    'program',
    'warning',
    /A-REX starts vmbatch 0\.9\.9 \(.*packaged\/vmbatch\), this is 1\.2\.3/,
    /one version/,
    () => ce.write('packaged/vmbatch', '#!/bin/sh\necho vmbatch 0.9.9\n', 0o755),
  ],
  [
    'the program does not start',
    'program',
    'failed',
    /cannot be started by .*exited with 127/,
    /install Node/,
    () => ce.write('program/vmbatch', '#!/bin/sh\nexit 127\n', 0o755),
  ],
  [
    'Node is too old',
    'node',
    'failed',
    /Node v18\.19\.0/,
    /20\.19/,
    () => ce.write('bin/node', '#!/bin/sh\necho v18.19.0\n', 0o755),
  ],
  [
    'Node is not where services look',
    'node',
    'failed',
    /no node in/,
    /\/usr\/local\/bin/,
    () => ce.write('bin/node', '#!/bin/sh\nexit 127\n', 0o755),
  ],
  [
    'gm-kick is missing',
    'gm-kick',
    'warning',
    /no gm-kick/,
    /ARC_LOCATION/,
    () => ce.remove('arc/lib/arc/gm-kick'),
  ],
  [
    'no scan runs',
    'scan',
    'warning',
    /no scan runs for .*control/,
    /helperlog/,
    () => ce.edit('proc/77/cmdline', '\0scan\0', '\0info\0'),
  ],
  [
    'processes of others are hidden',
    'scan',
    'skipped',
    /cannot be seen/,
    /^$/,
    () => {
      ce.remove('proc/1');
      ce.remove('proc/77');
    },
  ],
];

describe('faults of arc.conf and of the installation', () => {
  it.each(FAULTS)('%s', async (_, row, state, found, advice, breakIt) => {
    breakIt();
    await findsFault(ce, { row, state, found, advice });
  });

  it('names all mistakes of the file with their lines, not the first alone', async () => {
    ce.edit('arc.conf', 'image=demo', 'image=a b\nimagess=c\nno option');
    ce.edit('arc.conf', 'lrms=vmbatch vmalice', 'lrms=vmbatch a b');
    const lines = (await ce.look('options')).map(({ found }) => /arc\.conf:(\d+)/.exec(found)?.[1]);
    expect(lines.map(Number).sort((a, b) => a - b)).toEqual([8, 27, 28, 29]);
  });
});
