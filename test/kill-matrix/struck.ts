// One actor in a cell's directory, which is struck there.
import fs from 'node:fs';
import { thisProcess } from '../../src/hypervisor/guest-process.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../../src/util/errors.ts';
import { NOBODY } from '../support/fake-hooks.ts';
import type { Cell } from './cells.ts';
import { install, losePages, watch } from './faults.ts';
import { epilogue, JOB, openPlace, prologue, reaper, starter } from './place.ts';

/** @param argv the directory, and the cell as JSON */
export async function main([directory = '', text = '']: string[]): Promise<number> {
  const cell = JSON.parse(text) as Cell;
  install();
  const place = openPlace(directory);
  const seen = watch(directory);
  const strike = () => {
    if (cell.event === 'SIGTERM') {
      process.kill(process.pid, 'SIGTERM');
      return;
    }
    if (cell.event === 'volatile') losePages(seen);
    process.kill(process.pid, 'SIGKILL');
    for (;;); // not one instruction of ours more
  };
  const { step, phase, effect } = cell;
  switch (cell.actor) {
    case 'prologue': {
      seen.target = { side: 'acquire', step, phase, effect, strike };
      const over = new AbortController();
      // As the command does.
      process.on('SIGTERM', () =>
        over.abort(new VmbatchError({ fault: 'job', code: 'job-deleted', message: 'deleted' })),
      );
      try {
        const self = thisProcess();
        await prologue(place, JOB, step === 'peers', { self, signal: over.signal });
        return 0;
      } catch (thrown) {
        return FAULT_OUTCOMES[toVmbatchError(thrown, 'node').fault].prologueExit;
      }
    }
    case 'epilogue':
      seen.target = { side: 'release', step, phase, effect, strike };
      return (await epilogue(place, JOB)) ? 0 : 3;
    case 'reaper':
      seen.target = { side: 'release', step, phase, effect, strike };
      await reaper(place);
      return 0;
    case 'starter': {
      if (phase === 'before') strike();
      const { openSync } = fs;
      // It looks for the session at once.
      fs.openSync = (path, ...rest) => {
        if (phase === 'during' && String(path).endsWith('/session.json')) strike();
        return openSync(path, ...rest);
      };
      process.setgid?.(NOBODY.gid);
      process.setuid?.(NOBODY.uid);
      const exitCode = await starter(place, JOB, (listener) => {
        process.on('SIGTERM', () => listener('TERM'));
      });
      if (phase === 'after') strike();
      return exitCode;
    }
  }
}
