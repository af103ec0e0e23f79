// `vmbatch check ce`: a good set-up passes, and a server or a file that is not there hides only what comes
// from it.
import { chmodSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CE_CHECKS, checkCe } from '../../../../src/ce/check/check-ce.ts';
import { openCeSite } from '../../../../src/ce/check/site.ts';
import { type FakeCe, fakeCe, isRoot, isWrong, only } from './fake-ce.ts';

let ce: FakeCe;
beforeEach(() => {
  ce = fakeCe();
});
afterEach(() => ce.destroy());

describe('checkCe', () => {
  it('finds nothing wrong in a set-up that is complete', async () => {
    const results = await checkCe(ce.options);
    expect(results.filter(isWrong)).toEqual([]);
    expect([...new Set(results.map(({ check }) => check))]).toEqual(CE_CHECKS.map(({ name }) => name));
  });

  it('finds nothing wrong in the file that A-REX makes of arc.conf', async () => {
    const results = await checkCe({ ...ce.options, file: ce.at('run/arex.cfg') });
    expect(results.filter(isWrong)).toEqual([]);
  });

  it('says what JAliEn would count, and that an old one would find nothing', async () => {
    const counted = 'JAliEn counts 12 running and 3 waiting jobs of the VO alice (vmalice_alice)';
    expect(await ce.look('jalien')).toMatchObject([
      {
        found: `${counted}; a JAliEn that still looks for ce.example.org:2811 finds nothing and submits nothing`,
      },
    ]);
    ce.edit('ldif', /(ComputingEndpoint:ce\.example\.org):rest/g, '$1:2811');
    expect(await ce.look('jalien')).toMatchObject([{ found: counted }]);
    ce.remove('bin/ldapsearch');
    ce.options.system = { ...ce.options.system, servicePath: ce.at('bin') };
    expect(await ce.look('jalien')).toMatchObject([
      { state: 'skipped', found: expect.stringContaining('ldap-utils') },
    ]);
  });

  it('knows the layout of ARC 7 before its first job', async () => {
    expect((await ce.look('control-directory'))[0]?.found).toMatch(/as ARC 6 has it$/);
    ce.write('control/version2', '');
    expect((await ce.look('control-directory'))[0]?.found).toMatch(/as ARC 7 has it$/);
  });

  it("takes files of arc.conf.d in ARC's order, and only those that end in .conf", async () => {
    ce.remove('arc/lib/arc/arc-config-check');
    ce.write('arc/sbin/arcctl', '#!/bin/sh\n', 0o755);
    ce.write('arc.conf.d/b.conf', 'image=nobody-reads-it\n[custom:vmbatch]\nimages=c\n');
    ce.write('arc.conf.d/a/first.conf', '[queue:third]\n');
    ce.write('arc.conf.d/a.conf~', '[queue:fourth]\n');
    ce.write('arc.conf.d/README', '[queue:fifth]\n');
    const { configuration, added, problems } = openCeSite(ce.options, AbortSignal.timeout(1));
    expect([configuration.queues, configuration.queue('vmalice').images]).toEqual([
      ['vmalice', 'third'],
      ['demo', 'c'],
    ]);
    expect(added).toEqual([ce.at('arc.conf.d/b.conf'), ce.at('arc.conf.d/a/first.conf')]);
    expect(problems).toEqual([]);
  });

  it('puts in what A-REX would where arc.conf says nothing', async () => {
    ce.edit('arc.conf', /(controldir|sessiondir|pbs_log_path)=.*\n/g, '');
    const found = (await Promise.all(['control-directory', 'session-directories', 'server-log'].map(ce.look)))
      .flat()
      .map((result) => result.found);
    expect(found.join('\n')).toMatch(
      /\/var\/spool\/arc\/jobstatus.*\n.*\/var\/spool\/arc\/sessiondir.*\n.*\/var\/spool\/pbs\/server_logs/,
    );
  });

  it('looks at nothing that would come from a file which cannot be read', async () => {
    ce.remove('arc.conf');
    const results = await checkCe(ce.options);
    expect(results[0]).toMatchObject({
      check: 'configuration',
      state: 'failed',
      found: `${ce.at('arc.conf')} cannot be read (ENOENT)`,
    });
    const rest = Object.fromEntries(results.map(({ check, state }) => [check, state]));
    expect(rest).toMatchObject({
      options: 'skipped',
      'torque-commands': 'skipped',
      server: 'skipped',
      queues: 'skipped',
      'session-directories': 'skipped',
      'backend-files': 'ok',
    });
  });

  it('says what a server that is down keeps it from seeing, and sees the rest', async () => {
    ce.write('bin/qstat', '#!/bin/sh\necho "pbs_iff: cannot connect" >&2\nexit 111\n', 0o755);
    const results = await checkCe(ce.options);
    expect(only(results.filter(({ state }) => state === 'failed'))).toMatchObject({
      check: 'server',
      found: expect.stringContaining('the batch server does not answer'),
      advice: 'start pbs_server, or check server_name',
    });
    expect(
      results
        .filter((result) => isWrong(result) && result.state === 'skipped')
        .map(({ check, found }) => [check, found]),
    ).toEqual(['queues', 'nodes', 'keep-completed', 'requeue', 'clocks'].map((row) => [row, 'needs server']));
  });

  it('does not wait for a server that hangs, nor for what its commands have started', async () => {
    // The child would hold the pipe.
    ce.write('bin/qstat', '#!/bin/sh\nsleep 30\nexit 0\n', 0o755);
    ce.options.programMs = 300;
    expect(only(await ce.look('server'))).toMatchObject({
      state: 'failed',
      found: expect.stringMatching(/did not end within \d s/),
      advice: expect.stringMatching(/pbs_server and trqauthd/),
    });
  });
});

describe('backend files', () => {
  it('may be copies, as long as they are the same', async () => {
    ce.remove('arc/share/arc/VMBATCHmod.pm');
    ce.write('arc/share/arc/VMBATCHmod.pm', readFileSync(ce.at('program/arc-backend/VMBATCHmod.pm'), 'utf8'));
    expect((await ce.look('backend-files')).map(({ state }) => state)).toEqual(['ok']);
  });
});

describe('runtime environments', () => {
  it.runIf(isRoot)('must be readable for the users, or every job with them fails', async () => {
    ce.write('apps/X', 'true\n', 0o600);
    mkdirSync(ce.at('control/rte/default'));
    symlinkSync(ce.at('apps/X'), ce.at('control/rte/default/X'));
    const wrong = only(await ce.look('runtime-environments'));
    expect(wrong).toMatchObject({ state: 'failed', found: expect.stringMatching(/every job will fail/) });
    expect(wrong.found).toContain(`nobody cannot read ${ce.at('apps/X')}`);
  });
});

describe('session directories', () => {
  it('may be on a disk that this machine exports, or need not be shared at all', async () => {
    ce.edit('mounts', 'nfs4', 'ext4');
    ce.write('etab', `${ce.at('session').replaceAll('-', '\\055')}\t*(rw)\n`);
    expect((await ce.look('session-directories'))[0]).toMatchObject({
      state: 'ok',
      found: /exported from here/,
    });
    ce.remove('etab');
    ce.edit('arc.conf', '[arex]', '[arex]\nshared_filesystem=no');
    expect((await ce.look('session-directories'))[0]).toMatchObject({ state: 'ok' });
  });

  it('are looked at one by one, also those that are drained', async () => {
    mkdirSync(ce.at('old'));
    ce.edit('arc.conf', /(sessiondir=.*)/, `$1\nsessiondir=${ce.at('old')} drain`);
    const results = await ce.look('session-directories');
    expect(results.map(({ state }) => state)).toEqual(['ok', 'warning']);
    expect(results[1]?.found).toMatch(/\(drain\)$/);
  });

  it.runIf(isRoot)('must be within reach of the users, whatever root can do', async () => {
    ce.edit('arc.conf', /sessiondir=.*/, `sessiondir=${ce.at('closed/session')}`);
    mkdirSync(ce.at('closed/session'), { recursive: true });
    chmodSync(ce.at('closed'), 0o700);
    const wrong = only(await ce.look('session-directories'));
    expect(wrong).toMatchObject({ state: 'failed' });
    expect(wrong.found).toContain(`nobody cannot enter ${join(ce.directory, 'closed')}`);
  });
});
