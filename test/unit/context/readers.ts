// What the readers of a context disk make of it: emulations of the documented rules of CernVM's amiconfig and
// of µCernVM's boot loader, and Debian's cloud-init itself.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { IsoFile } from '../../../src/context/iso9660.ts';

/** amiconfig: nothing before the first section; then all sections and whatever looks like an option, wherever
 * it stands. */
export function amiconfigSections(userData: string): Record<string, Record<string, string>> {
  const sections: Record<string, Record<string, string>> = {};
  let current: Record<string, string> | undefined;
  for (const line of userData.split('\n')) {
    const section = /^\[([^\]]+)\]/.exec(line)?.[1];
    if (section !== undefined) {
      sections[section] ??= {};
      current = sections[section];
      continue;
    }
    const option = /^([^:=\s][^:=]*?)\s*[:=]\s*(.*)$/.exec(line);
    if (current !== undefined && option !== null) current[(option[1] ?? '').toLowerCase()] = option[2] ?? '';
  }
  return sections;
}

/** µCernVM: the lines between its marks, as variables of a shell that sources them. */
export function ucernvmVariables(userData: string): Record<string, string> {
  const lines = userData.split('\n');
  const own = lines.slice(lines.indexOf('[ucernvm-begin]') + 1, lines.indexOf('[ucernvm-end]'));
  const pairs = own
    .filter((line) => line.includes('='))
    .map((line) => {
      const at = line.indexOf('=');
      const value = line
        .slice(at + 1)
        .replace(/^(yes|on|true)$/i, '1')
        .replace(/^(no|off|false)$/i, '0');
      return [line.slice(0, at).toUpperCase(), value] as const;
    });
  const sourced = pairs.map(([name, value]) => `_UCONTEXT_${name}=${value}\n`).join('');
  const names = pairs.map(([name]) => `printf '%s=%s\\n' ${name} "$_UCONTEXT_${name}"\n`).join('');
  const { stdout, stderr } = spawnSync('sh', ['-eu'], { input: `${sourced}${names}`, encoding: 'utf8' });
  if (stderr !== '') throw new Error(stderr);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

interface CloudInitView {
  parts: { type: string; name: string; text: string }[];
  meta: Record<string, string>;
  configs: Record<string, unknown>[];
  /** What cloud-init goes by in the end. */
  merged: Record<string, unknown>;
  /** What its schema has against our own part, and its log against anything. */
  problems: string[];
  logged: string[];
  interfaces: { name: string; type: string; subnets: Record<string, unknown>[] }[];
  routes: Record<string, unknown>[];
  dns: string[][];
}

/** @throws Error with what cloud-init says */
export function cloudInitView(files: readonly IsoFile[]): CloudInitView {
  return withFiles(files, (directory) => {
    const script = join(import.meta.dirname, '../../support/readers.py');
    const { status, stdout, stderr } = spawnSync('/usr/bin/python3', [script, directory], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as CloudInitView;
  });
}

/** What cloud-init writes for the network of a system, as one text.
 * @throws Error with what cloud-init says */
export function writtenNetwork(files: readonly IsoFile[], writer: string, mac: string): string {
  return withFiles(files, (directory) => {
    const system = writer === 'sysconfig' ? 'centos' : 'debian';
    const to = ['-k', 'yaml', '-d', join(directory, 'out'), '-D', system, '-O', writer, '-m', `eth0,${mac}`];
    const args = ['devel', 'net-convert', '-p', join(directory, 'network-config'), ...to];
    const { status, stderr } = spawnSync('cloud-init', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    const { stdout } = spawnSync('grep', ['-rh', '', join(directory, 'out')], { encoding: 'utf8' });
    return stdout;
  });
}

/** Puts the files into a directory for the time of a call. */
export function withFiles<T>(files: readonly IsoFile[], work: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'vmbatch-context-'));
  try {
    for (const { path, data, mode = 0o600 } of files) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      writeFileSync(join(directory, path), data, { mode });
    }
    return work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
