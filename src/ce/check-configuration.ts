// Checks of a CE's arc.conf: what is wrong in it, and whether A-REX runs with it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Block, parseBlocks } from '../arc/ini.ts';
import { showBytes } from '../arc/text.ts';
import { findAccount } from '../util/account.ts';
import { type Check, type Finding, failed, ok, skipped, warning } from '../util/check.ts';
import { describeRun } from '../util/run.ts';
import type { CeSite } from './check-site.ts';

/** Ours alone: in any other block they make A-REX refuse to start. */
const OWN_OPTION =
  /^(image|images|repositories|max_vcpus|max_memory|memory_overhead|submit_patience|vmbatch_.*)$/;
/** A-REX puts something in the place of these. */
const FILLED_IN = /\$(VAR|EXEC|EVAL)\{/;
const RESTART = 'then restart A-REX: arcctl service restart --as-configured';

export const CONFIGURATION_CHECKS: readonly Check<CeSite>[] = [
  {
    name: 'configuration',
    about: 'arc.conf can be read',
    check: ({ file, unreadable }) =>
      unreadable === undefined
        ? ok(file)
        : failed(`${file} cannot be read (${unreadable})`, 'name the file: --config FILE'),
  },
  {
    name: 'options',
    about: 'every line of it that vmbatch uses is right',
    needs: ['configuration'],
    check: checkOptions,
  },
  {
    name: 'queue-block',
    about: 'the default queue has a [queue:NAME] block',
    needs: ['configuration'],
    check: checkQueueBlocks,
  },
  {
    name: 'own-options',
    about: "vmbatch's own options stand in [custom:vmbatch] and nowhere else",
    needs: ['configuration'],
    check: checkOwnOptions,
  },
  {
    name: 'validator',
    about: "ARC's own validator lets A-REX start with this file",
    needs: ['configuration'],
    check: checkValidator,
  },
  {
    name: 'running-configuration',
    about: 'A-REX runs with this configuration, not with an older one',
    needs: ['configuration'],
    check: checkRunning,
  },
  {
    name: 'mapped-users',
    about: 'the accounts that [mapping] names exist',
    needs: ['configuration'],
    check: checkMappedUsers,
  },
];

function checkOptions(site: CeSite): Finding[] {
  const { file, problems, blocks, configuration } = site;
  const findings = problems.map(({ message }) => {
    const line = site.lines[Number(/:(\d+): /.exec(message.slice(file.length))?.[1] ?? 0)] ?? '';
    // A-REX fills these in; what comes out is in the file that it runs with.
    return FILLED_IN.test(line)
      ? warning(
          `${message} (filled in when A-REX starts)`,
          'check the file that A-REX runs with: --config /run/arched-arex.cfg',
        )
      : failed(message, /lrms: found "pbs\b/.test(message) ? switchAdvice(line) : `correct it, ${RESTART}`);
  });
  if (!blocks.has('arex'))
    findings.push(
      failed(`${file}: there is no [arex] block`, `add it: without it there is no A-REX; ${RESTART}`),
    );
  const words = site.values('lrms', 'lrms').at(-1)?.split(/\s+/) ?? [];
  if (words[0] === 'vmbatch' && words.length === 1)
    findings.push(
      warning(
        '[lrms] lrms names no default queue',
        'write lrms = vmbatch QUEUE: jobs that name no queue go there',
      ),
    );
  if (findings.length > 0) return findings;
  const queue = configuration.queue(configuration.defaultQueue);
  return [ok(`lrms = vmbatch ${configuration.defaultQueue}, image ${queue.image ?? "of the node's choice"}`)];
}

const switchAdvice = (line: string) =>
  `to switch over: lrms = vmbatch ${line.split(/\s+/).at(-1) ?? 'QUEUE'}; ${RESTART}`;

function checkQueueBlocks({ configuration }: CeSite): Finding[] {
  const { defaultQueue, queues } = configuration;
  if (defaultQueue === undefined) return [skipped('there is no default queue')];
  if (queues.includes(defaultQueue)) return [ok(`[queue:${defaultQueue}]`)];
  return [
    failed(
      `there is no [queue:${defaultQueue}] block; there are: ${queues.join(', ') || 'none'}`,
      `add a line [queue:${defaultQueue}], ${RESTART}`,
    ),
  ];
}

function checkOwnOptions({ blocks, file }: CeSite): Finding[] {
  const findings: Finding[] = [];
  for (const [name, block] of blocks) {
    if (name === 'custom:vmbatch') continue;
    const first = [...block.values()][0]?.[0]?.line;
    if (/vm-?_?batch/i.test(name))
      findings.push(
        failed(
          `${file}:${first ?? '?'}: nobody reads the block [${name}]`,
          'the block is called [custom:vmbatch]',
        ),
      );
    else if (!name.startsWith('custom:'))
      for (const [key, options] of block)
        if (OWN_OPTION.test(key))
          findings.push(
            failed(
              `${file}:${options[0]?.line ?? '?'}: [${name}] ${key}: A-REX refuses to start with it there`,
              'move the line into the block [custom:vmbatch]',
            ),
          );
  }
  return findings.length > 0 ? findings : [ok('none outside of [custom:vmbatch]')];
}

async function checkValidator(site: CeSite): Promise<Finding[]> {
  const program = join(site.arc.location, 'lib/arc/arc-config-check');
  if (!site.isRoot) return [skipped("not root: it reads the host's key")];
  // With all defaults in it the validator finds fault with what nobody asked for; no admin names two other systems.
  if (['condor_bin_path', 'slurm_bin_path'].every((key) => site.values('lrms', key).length > 0))
    return [skipped('this file has the defaults in it; the validator is for arc.conf')];
  // Its comparison of clocks would go to the network.
  const result = await site.run(program, [
    '--config',
    site.file,
    '--skip-warnings',
    '--timeserver',
    'localhost',
  ]);
  if (result.notFound) return [skipped(`${program} is not installed`)];
  const errors = [...result.stderr.matchAll(/^.*\[ERROR\] (.*)$/gm)].map(([, text = '']) => text);
  if (errors.length > 0)
    return errors.map((text) =>
      failed(`${program}: ${text}`, 'correct it: A-REX does not start before that'),
    );
  return [result.exitCode === 0 ? ok('no errors') : skipped(describeRun(result))];
}

/** A-REX writes what it runs with beside its PID file. */
function checkRunning(site: CeSite): Finding {
  const pidFile = site.values('arex', 'pidfile').at(-1) ?? '/run/arched-arex.pid';
  const running = pidFile.replace(/\.[^./]*$/, '.cfg');
  if (running === site.file) return ok('this is the file that A-REX runs with');
  let blocks: ReadonlyMap<string, Block>;
  try {
    blocks = parseBlocks(readFileSync(running, 'latin1'), running, () => undefined);
  } catch {
    return warning(
      `A-REX does not run (there is no ${running})`,
      'start it: arcctl service start --as-configured',
    );
  }
  const different = [
    'lrms',
    'custom:vmbatch',
    ...[...site.blocks.keys()].filter((name) => name.startsWith('queue:')),
  ]
    .filter((name) => !holds(blocks.get(name), site.blocks.get(name), name.startsWith('custom:')))
    .map((name) => `[${name}]`);
  return different.length === 0
    ? ok(`A-REX runs with it (${running})`)
    : warning(
        `A-REX still runs with another ${different.join(', ')}`,
        'restart it: arcctl service restart --as-configured',
      );
}

/** Whether `running` has all that `written` says. It has more, since A-REX puts defaults in, but not in our block. */
function holds(running: Block | undefined, written: Block | undefined, alike: boolean): boolean {
  const said = (block: Block | undefined, key: string) => (block?.get(key) ?? []).map(({ value }) => value);
  const keys = [...(written?.keys() ?? []), ...(alike ? (running?.keys() ?? []) : [])];
  return keys.every((key) => {
    const now = said(written, key);
    return FILLED_IN.test(now.join()) || JSON.stringify(said(running, key)) === JSON.stringify(now);
  });
}

async function checkMappedUsers({ mappedNames, viewer, isRoot }: CeSite): Promise<Finding[]> {
  const { name: viewedBy } = await viewer();
  const findings: Finding[] = [];
  for (const name of mappedNames)
    await findAccount(name).catch(() => {
      findings.push(
        failed(
          `[mapping] names ${showBytes(name)}, and there is no such account`,
          'make the account here, on the nodes and on the batch server, with the same ids',
        ),
      );
    });
  const known = mappedNames.length === 0 ? 'none that can be found here' : mappedNames.join(', ');
  if (findings.length === 0)
    findings.push(ok(isRoot ? `${known}; looked with the eyes of ${viewedBy}` : known));
  if (!isRoot) findings.push(skipped(`not root: looked with the eyes of ${viewedBy}, not with theirs`));
  return findings;
}
