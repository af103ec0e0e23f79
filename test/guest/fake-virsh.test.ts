// The fake virsh fails in the words of the real one, which is asked on libvirt's own test driver (it needs no
// daemon).
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/util/processes/run.ts';
import { installFakeHypervisor } from '../site/fake-hypervisor.ts';

describe('the fake virsh', () => {
  let directory: string;
  let fake: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-fake-'));
    const dist = new URL('../../dist', import.meta.url).pathname;
    ({ virsh: fake } = await installFakeHypervisor(join(directory, 'fake'), dist, undefined));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const ask = (program: string, ...words: string[]) =>
    run(program, ['--quiet', '--connect', 'test:///default', ...words], {
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
    });

  it.each([
    ['destroys no domain that is not there', ['destroy', 'vmbatch-1.nowhere']],
    ['creates no domain from a file that is not there', ['create', '/nonexistent.xml']],
  ])('%s', async (_what, words) => {
    const [real, ours] = await Promise.all([ask('virsh', ...words), ask(fake, ...words)]);
    expect(real.exitCode).toBe(1);
    expect([ours.exitCode, ours.stdout, ours.stderr]).toEqual([real.exitCode, real.stdout, real.stderr]);
  });

  it('lists no domains but its own', async () => {
    const { exitCode, stdout, stderr } = await ask(fake, 'list', '--name');
    expect({ exitCode, domains: stdout.trim(), stderr }).toEqual({ exitCode: 0, domains: '', stderr: '' });
  });

  it('refuses a domain with a kernel where there is no real virsh to leave it to', async () => {
    const xml = join(directory, 'kernel.xml');
    writeFileSync(
      xml,
      `<domain type="qemu"><name>vmbatch-2.nowhere</name><memory unit="KiB">1</memory><vcpu>1</vcpu><os><kernel>/k</kernel></os>
<disk type="file" device="cdrom"><source file="/x.iso"/></disk><serial type="file"><source path="/x"/></serial>
<arg value="hostfwd=tcp:127.0.0.1:1-:22"/></domain>`,
    );
    const { exitCode, stderr } = await ask(fake, 'create', xml);
    expect([exitCode, stderr]).toEqual([1, `error: Failed to create domain from ${xml}\n`]);
  });
});
