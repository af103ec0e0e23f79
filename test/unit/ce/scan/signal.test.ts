// Signals reach a process, not a function: the command in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterEach, expect, it } from 'vitest';
import { helperInBundle } from '../../../../scripts/bundled-helper.mjs';
import { control, gridJob, torque, useScanSite } from './site.ts';

useScanSite();

let running: ChildProcess | undefined;
afterEach(() => {
  // Only if the test failed.
  running?.kill('SIGKILL');
});

/** Starts `vmbatch scan` for the site. */
async function startScan(): Promise<ChildProcess> {
  const program = join(torque.directory, 'scan.mjs');
  await build({
    stdin: {
      contents: `import { main } from './src/commands/ce/scan.ts';
process.exitCode = await main(process.argv.slice(2));`,
      resolveDir: join(import.meta.dirname, '../../../..'),
    },
    ...{ bundle: true, platform: 'node', format: 'esm', outfile: program, logLevel: 'error' },
    external: ['execa'],
    plugins: [helperInBundle],
  });
  const configuration = join(torque.directory, 'arc.conf');
  writeFileSync(
    configuration,
    `[common]\n[arex]\ncontroldir=${control}\n[lrms]\nlrms=vmbatch vmalice\npbs_bin_path=${torque.binPath}\npbs_log_path=${torque.directory}/no-logs\n[queue:vmalice]\n`,
  );
  return spawn(process.execPath, [program, '--config', configuration, control], { stdio: 'ignore' });
}

it('ends with 0, its state written, when it is told to while qstat takes its time', async () => {
  gridJob('1');
  const sleeping = join(torque.directory, 'sleeping');
  writeFileSync(join(torque.binPath, 'qstat'), `#!/bin/sh\necho $$ > ${sleeping}\nexec sleep 30\n`);
  chmodSync(join(torque.binPath, 'qstat'), 0o755);
  running = await startScan();
  const { promise: ended, resolve } = deferred<[number | null, string | null]>();
  running.once('exit', (code, signal) => resolve([code, signal]));
  const pid = () => (existsSync(sleeping) ? readFileSync(sleeping, 'utf8').trim() : '');
  for (let tries = 0; tries < 1_000 && pid() === ''; tries++) await setTimeout(10);
  running.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(existsSync(join(control, 'vmbatch-scan.state'))).toBe(true);
  expect(existsSync(`/proc/${pid()}`)).toBe(false);
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((take) => {
    resolve = take;
  });
  return { promise, resolve };
}
