import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { writeCpio } from '../../../../src/image/demo/cpio.ts';

const ENTRIES = [
  { path: 'bin', mode: 0o755 },
  { path: 'bin/program', mode: 0o755, data: Buffer.from('12345') },
  { path: 'empty', mode: 0o600, data: Buffer.alloc(0) },
];

describe('writeCpio', () => {
  it('lays out header, name and data at multiples of four bytes', () => {
    const archive = writeCpio(ENTRIES);
    expect(archive.length % 4).toBe(0);
    // magic, inode, mode, uid, gid, links, time, size of the first member
    expect(archive.toString('latin1', 0, 62)).toBe(
      `070701${'00000001'}${'000041ed'}${'00000000'.repeat(2)}${'00000002'}${'00000000'.repeat(2)}`,
    );
    const second = archive.indexOf('070701', 6);
    expect(second).toBe(116);
    expect(archive.toString('latin1', second + 54, second + 62)).toBe('00000005');
    expect(archive.indexOf('TRAILER!!!')).toBeGreaterThan(0);
  });

  it('gives the same bytes for the same entries', () => {
    expect(writeCpio(ENTRIES).equals(writeCpio(ENTRIES))).toBe(true);
  });

  it.runIf(hasCpio())('is read by cpio', () => {
    const listing = execFileSync('cpio', ['-itv', '--quiet', '--numeric-uid-gid'], {
      input: writeCpio(ENTRIES),
      encoding: 'utf8',
    });
    expect(listing.split('\n').map((line) => `${line.split(/\s+/)[0]} ${line.split(' ').at(-1)}`)).toEqual([
      ...['drwxr-xr-x bin', '-rwxr-xr-x bin/program', '-rw------- empty', ' '],
    ]);
  });
});

function hasCpio(): boolean {
  try {
    execFileSync('cpio', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
