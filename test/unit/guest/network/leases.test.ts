// Leases of ports, MAC addresses and pool entries: never two of one, whatever runs at once or dies.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listLeases, releaseLease, takeLease } from '../../../../src/guest/network/lease.ts';
import { leaseMac, macAddress, releaseMac } from '../../../../src/guest/network/mac.ts';
import { leasePoolEntry, releasePoolEntry } from '../../../../src/guest/network/pool.ts';
import { bundleProgram, runAtOnce, WAIT_FOR_START } from '../../../support/bundled.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-leases-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const nobody = () => undefined;
const pool = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    address: `192.0.2.${index + 10}`,
    address6: undefined,
    mac: undefined,
    hostname: undefined,
  }));

describe('takeLease', () => {
  it('gives a lease to one job only, and to the same job again', () => {
    expect(takeLease(directory, 'x', '1.s')).toBe(true);
    expect(takeLease(directory, 'x', '2.s')).toBe(false);
    expect(takeLease(directory, 'x', '1.s')).toBe(true);
    expect(listLeases(directory)).toMatchObject([{ name: 'x', jobId: '1.s' }]);
  });

  it('leaves nothing but the lock, and a release by another job changes nothing', () => {
    takeLease(directory, 'x', '1.s');
    releaseLease(directory, 'x', '2.s');
    expect(readdirSync(directory)).toEqual(['x']);
    releaseLease(directory, 'x', '1.s');
    releaseLease(directory, 'x', '1.s');
    expect(readdirSync(directory)).toEqual([]);
  });

  it('does not take what is no lock of ours for free', () => {
    writeFileSync(join(directory, 'x'), 'half a lo');
    expect(takeLease(directory, 'x', '1.s')).toBe(false);
    expect(listLeases(directory)).toEqual([]);
  });

  it('says that the directory is not there', () => {
    expect(() => takeLease(join(directory, 'absent'), 'x', '1.s')).toThrow(
      /no lock can be made in .*absent \(ENOENT\)/,
    );
  });
});

describe('leaseMac', () => {
  it('gives the job its own address, the same again, and another if a neighbour has it', () => {
    expect(leaseMac(directory, '1.s', nobody)).toBe(macAddress('1.s'));
    expect(leaseMac(directory, '1.s', nobody)).toBe(macAddress('1.s'));
    takeLease(directory, `mac-${macAddress('2.s').replaceAll(':', '-')}`, 'other');
    const candidates: string[] = [];
    expect(leaseMac(directory, '2.s', (mac) => candidates.push(mac))).toBe(macAddress('2.s', 1));
    // The journal hears of each before its lock is made.
    expect(candidates).toEqual([macAddress('2.s'), macAddress('2.s', 1)]);
    releaseMac(directory, '2.s', macAddress('2.s'));
    expect(listLeases(directory)).toHaveLength(3);
  });
});

describe('leasePoolEntry', () => {
  it('hands out every entry once, then says who has them', () => {
    const got = ['1.s', '2.s', '3.s'].map((id) => leasePoolEntry(directory, pool(3), id, nobody).address);
    expect([...got].sort()).toEqual(['192.0.2.10', '192.0.2.11', '192.0.2.12']);
    expect(() => leasePoolEntry(directory, pool(3), '4.s', nobody)).toThrow(
      /^all 3 addresses of network\.pool are taken: .*192\.0\.2\.1\d \([123]\.s\)/,
    );
    releasePoolEntry(directory, '2.s', got[1] ?? '');
    expect(leasePoolEntry(directory, pool(3), '4.s', nobody).address).toBe(got[1]);
  });

  it('gives a job that is started again the address that it had', () => {
    const { address } = leasePoolEntry(directory, pool(20), '1.s', nobody);
    expect(leasePoolEntry(directory, pool(20), '1.s', nobody).address).toBe(address);
    releasePoolEntry(directory, '1.s', address);
    expect(leasePoolEntry(directory, pool(20), '1.s', nobody).address).toBe(address);
  });

  it('is a fault of the node when it is exhausted', () => {
    leasePoolEntry(directory, pool(1), '1.s', nobody);
    const failing = () => leasePoolEntry(directory, pool(1), '2.s', nobody);
    expect(failing).toThrow(expect.objectContaining({ fault: 'node', code: 'pool-exhausted' }));
  });

  it('never gives one address or MAC to two of 32 processes that start at once', async () => {
    const program = join(directory, 'program.cjs');
    const leases = mkdtempSync(join(directory, 'leases-'));
    bundleProgram(
      `${WAIT_FOR_START}
      import { leaseMac } from './mac.ts';
      import { leasePoolEntry } from './pool.ts';
      const [directory, jobId, pool] = process.argv.slice(2);
      const entry = leasePoolEntry(directory, JSON.parse(pool), jobId, () => undefined);
      // All of them want the same address first.
      console.log(entry.address + ' ' + leaseMac(directory, jobId, () => undefined));`,
      join(import.meta.dirname, '../../../../src/guest/network'),
      program,
    );
    const got = await runAtOnce(program, (index) => [leases, `${index}.s`, JSON.stringify(pool(32))], 32);
    expect(new Set(got.map((line) => line.split(' ')[0])).size).toBe(32);
    expect(new Set(got.map((line) => line.split(' ')[1])).size).toBe(32);
    expect(listLeases(leases)).toHaveLength(64);
  }, 60_000);
});
