import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROGRAMS } from '../../../src/util/programs.ts';

const ROOT = join(import.meta.dirname, '../../..');
const SOURCES = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(ROOT, 'src', name), 'utf8') }));

/** What starts a program, with its first argument if that is a string. */
const START =
  /(?<![\w.#])(?:\w+\.)*(execa|spawn|spawnSync|execFile|execFileSync|run|runTool|spawnRun|bounded|startInBackground)\(\s*(?:run,\s*)?([^,()\n]+)/g;
/** Words that come before another program's, and who is looked for there. */
const PREFIX = /\[\s*'(setpriv|env|sudo|nice|timeout)'/g;
/** Starts whose program is not a string: where they are, and which programs they mean. */
const COMPUTED: Readonly<Record<string, string>> = {
  'arc/batch-script/stage-zero-shell.ts': 'the shell, by identityArguments',
  'ce/check/installation.ts': 'vmbatch itself',
  'ce/check/configuration.ts': "ARC's validator",
  'ce/check/site.ts': 'what the other checks name',
  'ce/scan/gm-kick.ts': "ARC's gm-kick",
  'ce/scan/absentees.ts': 'qdel, by setpriv',
  'image/demo/rootfs.ts': "the guest's own busybox",
  'image/demo/tools.ts': 'what callers of runTool name',
  'guest/peer-life.ts': 'the shell, by identityArguments',
  'node/background.ts': 'vmbatch itself and the shell',
  'node/check/programs.ts': 'the table itself, and pbsnodes',
  'node/guard/offline.ts': 'pbsnodes',
  'batch/torque/qdel.ts': 'qdel',
  'batch/torque/answers/qstat.ts': 'qstat',
  'batch/torque/answers/queues.ts': 'qstat',
  'batch/torque/answers/pbsnodes.ts': 'pbsnodes',
  'batch/torque/qsub.ts': 'qsub',
  'commands/hooks/epilogue.ts': 'vmbatch itself',
  'commands/hooks/prologue.ts': 'vmbatch itself',
  'commands/reap.ts': 'a function of its own',
  'util/accounts/as-user/process.ts': 'Node, by identityArguments',
  'util/processes/run.ts': 'the port',
  'util/processes/spawn-run.ts': 'the port',
};

function startedIn(text: string): { named: string[]; computed: string[] } {
  const firsts = [...text.matchAll(START)].map(([, , first = '']) => first.trim());
  const prefixes = [...text.matchAll(PREFIX)].map(([, first = '']) => first);
  const named = firsts.flatMap((first) => /^'([^']+)'$/.exec(first)?.[1]?.split('/').at(-1) ?? []);
  // A parameter with its type declares a function.
  const computed = firsts.filter((first) => !/^['"`]|:|^$/.test(first));
  return { named: [...named, ...prefixes], computed };
}

describe('the table of programs', () => {
  it('has every program that is started by its name', () => {
    const known = new Set(PROGRAMS.map(({ name }) => name));
    const unknown = SOURCES.flatMap(({ name, text }) =>
      startedIn(text)
        .named.filter((program) => !known.has(program))
        .map((program) => `${program} (${name})`),
    );
    expect(unknown).toEqual([]);
    expect(SOURCES.flatMap(({ text }) => startedIn(text).named)).toEqual(
      expect.arrayContaining(['virsh', 'qemu-img', 'setpriv', 'getent', 'id', 'tar', 'logger', 'ssh']),
    );
  });

  it('has somebody who knows it for every start that has no name', () => {
    const places = SOURCES.filter(({ text }) => startedIn(text).computed.length > 0).map(({ name, text }) =>
      name in COMPUTED ? name : `${name}: ${startedIn(text).computed.join(', ')}`,
    );
    expect(places.toSorted()).toEqual(Object.keys(COMPUTED).toSorted());
  });

  it('finds a start that is new', () => {
    expect(startedIn("await run('xorriso', ['-as'])").named).toEqual(['xorriso']);
    expect(startedIn("spawn('/sbin/dhclient', [])").named).toEqual(['dhclient']);
    expect(startedIn('const r = await site.run(tool, words)').computed).toEqual(['tool']);
  });
});
