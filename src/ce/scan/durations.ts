// Performance logs as ARC's own backends write them, for sites that have
// `enable_perflog_reporting=expert-debug-on`.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { appendPerflog } from '../perflog.ts';

/** Milliseconds between two lines of a kind: what ARC's scan, which is started again and again, comes to. */
const PAUSE_MS = 60_000;

export class PerformanceLog {
  readonly #directory: string | undefined;
  readonly #writtenAt = new Map<string, number>();

  /** @param directory undefined: nothing is written */
  constructor(directory: string | undefined) {
    this.#directory = directory;
  }

  /** `[date time] scan-vmbatch-job, WHAT: SECONDS` in `backends.perflog`. Never fails. */
  write(what: string, milliseconds: number, now = new Date()): void {
    if (!this.#isDue(what)) return;
    this.#append('backends.perflog', [`scan-vmbatch-job, ${what}: ${(milliseconds / 1000).toFixed(3)}`], now);
  }

  /** Load, memory and size of the control directory in `systemDATE.perflog`. Never fails. */
  writeSystem(controlDirectory: string, now = new Date()): void {
    if (!this.#isDue(controlDirectory)) return;
    const memory = readText('/proc/meminfo');
    const line = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(memory)?.[1] ?? '';
    this.#append(
      `system${stamp(now).slice(0, 10)}.perflog`,
      [
        `LoadAVG: ${readText('/proc/loadavg').trim().split(' ').slice(0, -1).join(' ')}`,
        `MemStat: ${line('MemTotal')} ${line('MemFree')}`,
        `Control dir: ${count(controlDirectory)} ${count(join(controlDirectory, 'processing'))}`,
      ],
      now,
    );
  }

  #isDue(what: string): boolean {
    const now = performance.now();
    if (this.#directory === undefined || now - (this.#writtenAt.get(what) ?? -PAUSE_MS) < PAUSE_MS)
      return false;
    this.#writtenAt.set(what, now);
    return true;
  }

  #append(name: string, lines: readonly string[], now: Date): void {
    try {
      const text = lines.map((line) => `[${stamp(now)}] ${line}\n`).join('');
      appendPerflog(join(this.#directory ?? '', name), text, 0o644);
    } catch {
      // A figure that is not written must not keep a job from being reported.
    }
  }
}

/** `2026-11-22 09:17:13`, local time. */
function stamp(time: Date): string {
  const two = (number: number) => String(number).padStart(2, '0');
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function count(path: string): number {
  try {
    return readdirSync(path).length;
  } catch {
    return 0;
  }
}
