// The runner of the checks, and how `vmbatch check` prints what they found.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { CE_CHECKS } from '../../../../src/ce/check/check-ce.ts';
import { main, renderChecks } from '../../../../src/commands/check.ts';
import {
  type Check,
  type CheckResult,
  failed,
  ok,
  runChecks,
  skipped,
  warning,
} from '../../../../src/util/check.ts';
import { VmbatchError } from '../../../../src/util/errors.ts';

const GUIDE = join(import.meta.dirname, '../../../../docs/ce.md');

const row = (name: string, check: Check<null>['check'], needs: string[] = []): Check<null> => ({
  name,
  about: name,
  needs,
  check,
});
const states = (results: CheckResult[]) =>
  results.map(({ check, state, found }) => `${check}: ${state} ${found}`);

describe('runChecks', () => {
  it('gives the findings in the order of the rows, whichever answers first', async () => {
    const slow = async () => {
      await sleep(20);
      return [ok('one'), ok('two')];
    };
    const results = await runChecks([row('slow', slow), row('quick', () => ok('three'))], null, 5000);
    expect(states(results)).toEqual(['slow: ok one', 'slow: ok two', 'quick: ok three']);
  });

  it('skips what needs a row that failed or was skipped, but not what needs one with a warning', async () => {
    const results = await runChecks(
      [
        row('a', () => failed('broken', 'mend it')),
        row('b', () => ok('never'), ['a']),
        row('c', () => ok('never'), ['b']),
        row('d', () => warning('odd', 'look')),
        row('e', () => ok('yes'), ['d']),
      ],
      null,
      5000,
    );
    expect(states(results)).toEqual([
      'a: failed broken',
      'b: skipped needs a',
      'c: skipped needs b',
      'd: warning odd',
      'e: ok yes',
    ]);
  });

  it('takes an exception for a finding, with its hint as advice', async () => {
    const throwing = () => {
      throw new VmbatchError({
        fault: 'site',
        code: 'qstat-server-down',
        message: 'server is down',
        hint: 'start it',
      });
    };
    expect(await runChecks([row('a', throwing)], null, 5000)).toEqual([
      { check: 'a', state: 'failed', found: 'server is down', advice: 'start it' },
    ]);
  });

  it('does not wait for a row that never answers, nor lose the others for it', async () => {
    const never = () => new Promise<never>(() => undefined);
    const rows = [
      row('stuck', never),
      row('behind', () => ok('no'), ['stuck']),
      row('good', () => ok('yes')),
    ];
    const results = await runChecks(rows, null, 50);
    expect(results.map(({ check, state }) => [check, state])).toEqual([
      ['stuck', 'failed'],
      ['behind', 'skipped'],
      ['good', 'ok'],
    ]);
    expect(results[0]?.found).toMatch(/no answer within/);
  });
});

describe('renderChecks', () => {
  const results: CheckResult[] = [
    { check: 'configuration', ...ok('/etc/arc.conf') },
    {
      check: 'own-options',
      ...failed(
        '/etc/arc.conf:9: [lrms] max_vcpus: A-REX refuses to start with it, so nobody can submit anything here',
        'move the line into the block [custom:vmbatch]',
      ),
    },
    { check: 'requeue', ...skipped('needs server') },
  ];

  it('puts state, check and finding below one another, and what to do under the finding', () => {
    expect(renderChecks(results, { width: 80, colours: false })).toBe(`ok       configuration  /etc/arc.conf
FAILED   own-options    /etc/arc.conf:9: [lrms] max_vcpus: A-REX refuses to
                        start with it, so nobody can submit anything here
                        -> move the line into the block [custom:vmbatch]
skipped  requeue        needs server

1 failed, 0 warnings, 1 could not be looked at
`);
  });

  it('breaks no path, however long', () => {
    const path = `/srv/${'directory/'.repeat(12)}file`;
    const text = renderChecks([{ check: 'a', ...ok(`found ${path} there`) }], { width: 80, colours: false });
    expect(text.split('\n').map((line) => line.trim())).toContain(path);
  });

  it('colours only where it is told to', () => {
    const escapeSign = String.fromCharCode(27);
    expect(renderChecks(results, { width: 80, colours: false })).not.toContain(escapeSign);
    expect(renderChecks(results, { width: 80, colours: true })).toContain(`${escapeSign}[31mFAILED`);
  });
});

describe('vmbatch check', () => {
  it('prints one JSON object, and exits with the code of a site fault if something failed', async () => {
    const printed: string[] = [];
    const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      printed.push(String(text));
      return true;
    });
    const code = await main(['ce', '--json', '--config', '/no/such/arc.conf']).finally(() =>
      write.mockRestore(),
    );
    expect(code).toBe(4);
    expect(printed).toHaveLength(1);
    expect(JSON.parse(printed[0] ?? '')).toMatchObject({
      ok: false,
      configuration: '/no/such/arc.conf',
      results: expect.arrayContaining([
        { check: 'configuration', state: 'failed', found: expect.any(String), advice: expect.any(String) },
      ]),
    });
  });

  it('finds nothing wrong with the example of the guide', () => {
    const guide = readFileSync(GUIDE, 'utf8');
    const example = /^## arc\.conf\n\n((?: {4}.*\n|\n)+)/m.exec(guide)?.[1] ?? '';
    const problems: string[] = [];
    const configuration = parseArcConfiguration(example, 'ce.md', ({ message }) => problems.push(message));
    expect(problems).toEqual([]);
    expect(configuration.queue('vmbig')).toMatchObject({ image: 'alma9', maxVcpus: 16 });
  });

  it('has each of its rows in the guide for administrators', () => {
    const guide = readFileSync(GUIDE, 'utf8');
    const described = [...guide.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name);
    expect(described).toEqual(expect.arrayContaining(CE_CHECKS.map(({ name }) => name)));
  });

  it.each([[[]], [['both']], [['ce', 'more']], [['ce', '--jsn']]])(
    'refuses the arguments %j',
    async (argv) => {
      await expect(main(argv)).rejects.toMatchObject({ fault: 'site', code: 'usage' });
    },
  );
});
