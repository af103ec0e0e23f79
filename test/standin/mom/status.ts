// A mom's status line, as pbsnodes shows it.
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem, version } from 'node:os';
import { nowSeconds } from '../common/log.ts';

function readNumber(path: string, pattern: RegExp): number {
  try {
    return Number(pattern.exec(readFileSync(path, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** `opsys=linux,uname=...,jobs=67.vm 68.vm` */
export function statusLine(
  node: string,
  jobs: readonly { id: string; session: number | undefined }[],
): string {
  const sessions = jobs.map(({ session }) => session).filter((session) => session !== undefined);
  const available = readNumber('/proc/meminfo', /MemAvailable:\s+(\d+)/);
  const swap = readNumber('/proc/meminfo', /SwapTotal:\s+(\d+)/);
  const physical = Math.floor(totalmem() / 1024);
  return [
    'opsys=linux',
    `uname=Linux ${node} ${release()} ${version()} x86_64`,
    `sessions=${sessions.length === 0 ? '? 0' : sessions.join(' ')}`,
    `nsessions=${sessions.length}`,
    `nusers=${sessions.length === 0 ? 0 : 1}`,
    'idletime=0',
    `totmem=${physical + swap}kb`,
    `availmem=${available + swap}kb`,
    `physmem=${physical}kb`,
    `ncpus=${cpus().length}`,
    `loadave=${(loadavg()[0] ?? 0).toFixed(2)}`,
    'gres=',
    'netload=0',
    'state=free',
    'varattr= ',
    'cpuclock=Fixed',
    'version=6.1-dev',
    `rectime=${nowSeconds()}`,
    `jobs=${jobs.map(({ id }) => id).join(' ')}`,
  ].join(',');
}
