// Commands that look after jobs which are there already go on with a configuration that submit refuses.
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main as cancelMain } from '../../../../src/commands/ce/cancel.ts';
import { main as infoMain } from '../../../../src/commands/ce/info.ts';
import { main as scanMain } from '../../../../src/commands/ce/scan.ts';
import { main as submitMain } from '../../../../src/commands/ce/submit.ts';
import { type FakeTorque, fakeTorque } from '../fake-torque.ts';

let torque: FakeTorque;
let conf: string;
const written = { stdout: '', stderr: '' };

beforeEach(() => {
  torque = fakeTorque();
  conf = join(torque.directory, 'arex.cfg');
  for (const name of ['stdout', 'stderr'] as const) {
    written[name] = '';
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += String(text);
      return true;
    });
  }
});
afterEach(() => {
  vi.restoreAllMocks();
  torque.remove();
});

it('info says nothing that XML does not have', async () => {
  writeFileSync(conf, `[lrms]\nlrms=vmbatch main\npbs_bin_path=${torque.binPath}\n[queue:main]\n`);
  torque.answer('qstat-Q', { stdout: 'Queue: main\n    queue_type = Execution\n' });
  torque.answer('qstat', {
    stdout:
      '<Data><Job><Job_Id>1.vm</Job_Id><job_state>Q</job_state><queue>main</queue><comment>a&#27;b\x01\ufffe</comment></Job></Data>',
  });
  await infoMain(['--config', conf]);
  expect(JSON.parse(written.stdout).jobs['1.vm'].comment).toEqual(['LRMS: a?b??']);
});

describe.each([
  [
    'a bad option of vmbatch',
    'lrms=vmbatch main',
    '[custom:vmbatch]\nimagse=demo',
    ':5: [custom:vmbatch] has no option',
  ],
  ['a bad queue', 'lrms=vmbatch a b', '', ':2: [lrms] lrms: found "vmbatch a b"'],
  ['no queue', '', '', ': [lrms] lrms is missing'],
])('with %s', (_, lrms, custom, problem) => {
  beforeEach(() => writeFileSync(conf, `[lrms]\n${lrms}\npbs_bin_path=${torque.binPath}\n${custom}\n`));

  it('cancel deletes the job and tells the log', async () => {
    const grami = join(torque.directory, 'grami');
    writeFileSync(grami, 'joboption_jobid=112.vm\n');
    let said = '';
    const log = (text: string) => {
      said += text;
    };
    expect(await cancelMain(['--config', conf, grami], log)).toBe(0);
    expect(torque.calls()).toEqual([expect.stringMatching(/^qdel\|.*\|112\.vm$/)]);
    expect(said).toContain(`vmbatch: ignored: ${conf}${problem}`);
    expect(said).toContain('vmbatch: batch job 112.vm is being deleted\n');
  });

  it('scan asks TORQUE and tells the log', async () => {
    const control = join(torque.directory, 'control');
    mkdirSync(join(control, 'processing'), { recursive: true });
    writeFileSync(join(control, 'processing', 'job.1.status'), 'INLRMS');
    writeFileSync(join(control, 'job.1.local'), 'localid=1.vm\n', { mode: 0o600 });
    torque.answer('qstat', {
      stdout: '<Data><Job><Job_Id>1.vm</Job_Id><job_state>R</job_state></Job></Data>',
    });
    // Jobs of root are ignored, so an account of its own is needed to get as far as TORQUE.
    if (process.getuid?.() === 0) chownSync(join(control, 'job.1.local'), 65534, 65534);
    expect(await scanMain(['--config', conf, '--once', control])).toBe(0);
    expect(torque.calls()).toEqual([expect.stringMatching(/^qstat\|.*\|-x$/)]);
    expect(written.stderr).toContain(`vmbatch scan: ignored: ${conf}${problem}`);
  });

  it('info describes the site and names the option in its document, not as something it could not find out', async () => {
    torque.answer('qstat-Q', { stdout: 'Queue: main\n    enabled = True\n    started = True\n' });
    torque.answer('pbsnodes', { stdout: '<Data></Data>' });
    expect(await infoMain(['--config', conf])).toBe(0);
    const document = JSON.parse(written.stdout) as { queues: object; problems: []; warnings: [] };
    expect(Object.keys(document.queues)).toEqual(['main']);
    expect(document.problems).toEqual([]);
    expect(document.warnings).toEqual([expect.stringContaining(`ignored: ${conf}${problem}`)]);
  });

  it('submit refuses', async () => {
    await expect(submitMain(['--config', conf, join(torque.directory, 'grami')])).rejects.toMatchObject({
      code: 'configuration-invalid',
    });
    expect(torque.calls()).toEqual([]);
  });
});
