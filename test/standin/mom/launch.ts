// Starts the launcher, which outlives the mom, and reads the events it reports.
import { spawn } from 'node:child_process';
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { MomPaths } from '../common/site.ts';
import { encodeSpec, type Spec } from './spec.ts';

/** Calls `take` with the words of each event; resolves when the launcher has gone. */
export function launch(
  paths: MomPaths,
  mode: 'start' | 'epilogue' | 'deliver' | 'sister',
  name: string,
  spec: Spec,
  take: (words: string[]) => void,
): Promise<void> {
  const specFile = join(paths.jobs, `${name}.${mode}`);
  writeFileSync(specFile, encodeSpec(spec), { mode: 0o600 });
  const errors = openSync(join(paths.logs, 'launcher'), 'a', 0o600);
  const launcher = spawn(
    '/usr/bin/perl',
    [join(dirname(process.argv[1] ?? ''), 'launcher.pl'), mode, specFile],
    {
      cwd: paths.momPriv,
      // Its own session: what ends the mom must not end the job.
      detached: true,
      env: { PATH: '/usr/bin:/bin', LANG: 'C' },
      stdio: ['ignore', 'ignore', errors, 'pipe'],
    },
  );
  closeSync(errors);
  let held = '';
  const events = launcher.stdio[3] as Readable;
  events.setEncoding('utf8');
  events.on('error', () => undefined);
  events.on('data', (text: string) => {
    const lines = (held + text).split('\n');
    held = lines.pop() ?? '';
    for (const line of lines) take(line.split(' '));
  });
  return new Promise((resolve) => {
    launcher.on('error', () => resolve());
    launcher.on('close', () => {
      rmSync(specFile, { force: true });
      resolve();
    });
  });
}
