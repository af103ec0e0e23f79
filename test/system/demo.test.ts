// The demo as a new user runs it, and what it promises on its last line.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const DEMO_MS = 240_000;
const demo = new URL('../../build/site/demo.cjs', import.meta.url).pathname;

function runDemo(...args: string[]) {
  const result = spawnSync(process.execPath, [demo, ...args], { encoding: 'utf8', timeout: DEMO_MS });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

const traces = () => ({
  account: /^vmbatch-demo:/m.test(readFileSync('/etc/passwd', 'utf8')),
  directories: readdirSync('/var/tmp').filter((name) => name.startsWith('vmbatch-demo-')),
});

describe('the demo', () => {
  it(
    'prints one JSON object that says where the job ran, how long everything took and that nothing is left',
    () => {
      const { status, stdout, stderr } = runDemo('--json');
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const result = JSON.parse(stdout);
      const hostBootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      expect(result).toMatchObject({ exitCode: 0, ranInGuest: true });
      expect(['qemu', 'kvm']).toContain(result.hypervisor);
      expect(Object.keys(result.guest)).toEqual(['hostname', 'kernel', 'bootId']);
      expect(result.guest.hostname).toMatch(/^vmbatch-/);
      expect(result.guest.bootId).not.toBe(hostBootId);
      const phases = ['submit', 'queueWait', 'prologue', 'guestBoot', 'job', 'epilogue', 'scan'];
      expect(Object.keys(result.seconds)).toEqual(phases);
      expect(Object.values(result.seconds).every((seconds) => Number(seconds) > 0)).toBe(true);
      expect(result.seconds.guestBoot).toBeLessThan(result.seconds.prologue);
      const nothing = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };
      expect(result.left).toEqual(nothing);
      expect(traces()).toEqual({ account: false, directories: [] });
    },
    DEMO_MS,
  );

  it(
    'shows a job that exits with 7 as A-REX sees it, with a static address as well',
    () => {
      const { status, stdout } = runDemo('--fail', '7', '--static');
      expect(status).toBe(0);
      expect(stdout).toMatch(/lrms_done: 7 Job exited with code 7/);
      expect(stdout).toMatch(/AN INPUT FILE, TURNED INTO CAPITALS/);
      expect(stdout).not.toContain('\u001b['); // it is not on a terminal
      expect(traces()).toEqual({ account: false, directories: [] });
    },
    DEMO_MS,
  );

  it('refuses an exit code that is none', () => {
    expect(runDemo('--fail', 'x')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/--fail takes/),
    });
  });
});
