// The servers that demo and tests start for themselves: they answer, they are ours alone, and they end.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { run } from '../../src/util/processes/run.ts';
import { startDaemon, waitForDaemon } from '../site/daemon.ts';
import { cpuCanVirtualise, startPrivateLibvirtd } from '../site/libvirtd.ts';
import { formatGaneshaConfig, startNfsServer } from '../site/nfs.ts';

const work = mkdtempSync(join(tmpdir(), 'vmbatch-site-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

describe('startPrivateLibvirtd', () => {
  it('starts several that do not see each other, and stops them with their domains', async () => {
    let guest = 0;
    const [first, second] = await Promise.all(
      // A blank, as a home directory may have one.
      ['first one', 'second'].map((name) => startPrivateLibvirtd(join(work, name), { hideKvm: true })),
    );
    if (first === undefined || second === undefined) throw new Error('not started');
    const virsh = async (uri: string, ...args: string[]) => {
      const result = await run('virsh', ['-c', uri, ...args]);
      expect(result.stderr).toBe('');
      return result.stdout;
    };
    try {
      const domain = join(work, 'domain.xml');
      await run('tee', [domain], {
        input:
          '<domain type="qemu"><name>probe</name><memory>65536</memory><os><type>hvm</type></os></domain>',
      });
      await virsh(first.uri, 'define', domain);
      expect((await virsh(first.uri, 'list', '--all', '--name')).trim()).toBe('probe');
      expect((await virsh(second.uri, 'list', '--all', '--name')).trim()).toBe('');
      // With /dev/kvm hidden it must offer emulation alone.
      expect(await virsh(first.uri, 'capabilities')).not.toContain("<domain type='kvm'");
      await virsh(first.uri, 'start', 'probe');
      guest = Number(readFileSync(join(work, 'first one/run/qemu/probe.pid'), 'utf8'));
      expect(isAlive(guest)).toBe(true);
    } finally {
      await Promise.all([first.stop(), second.stop()]);
    }
    expect([first.pid, second.pid, guest].map(isAlive)).toEqual([false, false, false]);
    expect(existsSync(join(work, 'second/libvirtd.pid'))).toBe(false);
  }, 120_000);

  it('refuses a directory whose socket would have too long a name', async () => {
    const directory = join(work, 'x'.repeat(100));
    await expect(startPrivateLibvirtd(directory, { hideKvm: true })).rejects.toMatchObject({
      code: 'site-socket-path',
    });
    expect(existsSync(directory)).toBe(false);
  });
});

describe('cpuCanVirtualise', () => {
  it('goes by the flags of the processor', () => {
    expect(cpuCanVirtualise('flags\t\t: fpu vme svm lm\n')).toBe(true);
    expect(cpuCanVirtualise('model : x\nflags\t\t: fpu vmx\n')).toBe(true);
    expect(cpuCanVirtualise('flags\t\t: fpu lm svm_lock\nvmx flags\t: vnmi svm\n')).toBe(false);
  });
});

describe('startNfsServer', () => {
  it('takes a free port of its own and gives it back', async () => {
    mkdirSync(join(work, 'export'));
    const start = (name: string) =>
      startNfsServer({ dir: join(work, name), exportPath: join(work, 'export'), pseudo: '/share' });
    const servers = [await start('nfs one'), await start('nfs two')];
    expect(new Set(servers.map(({ port }) => port)).size).toBe(2);
    for (const server of servers) {
      await server.stop();
      expect(isAlive(server.pid)).toBe(false);
    }
  }, 60_000);

  it('refuses paths that would end the quotes in its configuration', () => {
    const request = { dir: '/d', exportPath: '/e', pseudo: '/share', port: 1 };
    expect(formatGaneshaConfig(request)).toContain('Path = "/e"; Pseudo = "/share"');
    for (const exportPath of ['/a"; Squash = None; "', 'relative', '/a\nb'])
      expect(() => formatGaneshaConfig({ ...request, exportPath })).toThrow('cannot be given the path');
  });
});

describe('startDaemon', () => {
  it('names the package of a program that is missing', async () => {
    const options = { log: join(work, 'none.log'), debianPackage: 'probe-package' };
    await expect(startDaemon('the probe', '/nonexistent/probe', [], options)).rejects.toMatchObject({
      code: 'tool-missing',
      hint: 'apt-get install --no-install-recommends probe-package',
    });
  });

  it('says with what last words a daemon ended that never became ready', async () => {
    const log = join(work, 'ended.log');
    const args = ['-c', 'echo configuration missing >&2; exit 4'];
    const daemon = await startDaemon('the probe', 'sh', args, { log, debianPackage: 'dash' });
    await expect(waitForDaemon('the probe', daemon, async () => false, 10_000, log)).rejects.toThrow(
      `the probe exited with 4; the end of ${log}: configuration missing`,
    );
  });

  it('kills a daemon that does not heed SIGTERM', async () => {
    const log = join(work, 'deaf.log');
    const args = ['-c', 'trap "" TERM; echo deaf; while :; do sleep 0.1; done'];
    const daemon = await startDaemon('the probe', 'sh', args, { log, debianPackage: 'dash' });
    await daemon.stop(200);
    expect(isAlive(daemon.pid)).toBe(false);
    expect(daemon.whyEnded()).toMatch(/died of SIG(KILL|TERM)/);
  });
});
