// Checks of a CE's arc.conf: what is wrong in it, and whether A-REX runs with it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Block, parseBlocks } from '../../arc/ini.ts';
import { showBytes } from '../../arc/text.ts';
import { findAccount } from '../../util/accounts/account.ts';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { describeRun } from '../../util/processes/run.ts';
import { additionsOf } from './files.ts';
import type { CeSite } from './site.ts';

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
  const findings = problems.map(({ message, line: at }) => {
    const line = site.lines[at] ?? '';
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
  findings.push(...repeatedOptions(site), ...filesNotRead(site));
  if (findings.length > 0) return findings;
  const queue = configuration.queue(configuration.defaultQueue);
  return [ok(`lrms = vmbatch ${configuration.defaultQueue}, image ${queue.image ?? "of the node's choice"}`)];
}

/** Options that are there once, or one of them is not what its author thinks. */
const SINGLE: Readonly<Record<string, readonly string[]>> = {
  common: ['hostname'],
  arex: ['controldir', 'shared_filesystem', 'scratchdir', 'shared_scratch', 'runtimedir', 'pidfile'],
  lrms: [
    ...['lrms', 'pbs_bin_path', 'pbs_log_path', 'defaultmemory', 'gnu_time', 'nodename', 'movetool'],
    'pbs_dedicated_node_string',
  ],
  queue: ['pbs_queue_node', 'defaultmemory', 'nodememory'],
};

function repeatedOptions({ blocks, where }: CeSite): Finding[] {
  return [...blocks].flatMap(([name, block]) =>
    (SINGLE[name.split(':')[0] ?? ''] ?? []).flatMap((key) => {
      const [first, second] = block.get(key) ?? [];
      if (first === undefined || second === undefined) return [];
      const values = `${showBytes(first.value)}, then ${showBytes(second.value)}`;
      return [
        warning(
          `${where(second.line)}: [${name}] ${key} is given again (also in ${where(first.line)}): ${values}`,
          `keep one of them: vmbatch takes the last, parts of ARC the first; ${RESTART}`,
        ),
      ];
    }),
  );
}

/** ARC 6 knows no arc.conf.d. */
function filesNotRead({ file, arc }: CeSite): Finding[] {
  const ignored = arc.version === 6 ? additionsOf(`${file}.d`) : [];
  return ignored.length === 0
    ? []
    : [
        warning(
          `ARC 6 does not read ${ignored.join(', ')}`,
          `put what is in there into ${file}: ARC 7 is the first to add it`,
        ),
      ];
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

function checkOwnOptions({ blocks, file, where, arc }: CeSite): Finding[] {
  const effect = arc.version === 7 ? 'nobody reads it there' : 'A-REX refuses to start with it there';
  const place = (line: number | undefined) => (line === undefined ? `${file}:?` : where(line));
  const findings: Finding[] = [];
  for (const [name, block] of blocks) {
    if (name === 'custom:vmbatch') continue;
    const first = [...block.values()][0]?.[0]?.line;
    if (/vm-?_?batch/i.test(name))
      findings.push(
        failed(`${place(first)}: nobody reads the block [${name}]`, 'the block is called [custom:vmbatch]'),
      );
    else if (!name.startsWith('custom:'))
      for (const [key, options] of block)
        if (OWN_OPTION.test(key))
          findings.push(
            failed(
              `${place(options[0]?.line)}: [${name}] ${key}: ${effect}`,
              'move the line into the block [custom:vmbatch]',
            ),
          );
  }
  return findings.length > 0 ? findings : [ok('none outside of [custom:vmbatch]')];
}

async function checkValidator(site: CeSite): Promise<Finding[]> {
  const { location, version } = site.arc;
  if (!site.isRoot) return [skipped("it reads the host's key: run it as root")];
  // With all defaults in it the validator finds fault with what nobody asked for; no admin names two other
  // systems.
  if (['condor_bin_path', 'slurm_bin_path'].every((key) => site.values('lrms', key).length > 0))
    return [skipped('this file has the defaults in it; the validator is for arc.conf')];
  const program = join(location, version === 7 ? 'sbin/arcctl' : 'lib/arc/arc-config-check');
  const result = await site.run(
    program,
    version === 7
      ? ['-c', site.file, 'config', 'verify']
      : // Its comparison of clocks would go to the network.
        ['--config', site.file, '--skip-warnings', '--timeserver', 'localhost'],
    // arcctl takes three seconds on a machine that has nothing else to do.
    { timeoutMs: Math.max(site.programMs ?? 0, VALIDATOR_MS) },
  );
  if (result.notFound) return [skipped(`${program} is not installed`)];
  const said = `${result.stderr}\n${result.stdout}`;
  const errors = [...said.matchAll(VALIDATOR_ERROR)].map(([, six, seven]) => six ?? seven ?? '');
  if (errors.length > 0)
    return errors.map((text) =>
      version === 7
        ? warning(`${program}: ${text}`, 'correct it: A-REX 7 starts all the same, and goes on without it')
        : failed(`${program}: ${text}`, 'correct it: A-REX does not start before that'),
    );
  return [result.exitCode === 0 ? ok('no errors') : skipped(describeRun(result))];
}

const VALIDATOR_MS = 7_000;
/** `[ERROR] text` of ARC 6; `[ARCCTL.Validator] [ERROR] [PID] [text]` of ARC 7. */
const VALIDATOR_ERROR =
  /^.*(?:(?<!\[ARCCTL\.\w+\] )\[ERROR\] (?!\[\d+\] \[)(.*)|\[ARCCTL\.Validator\] \[ERROR\] \[\d+\] \[(.*)\])$/gm;

/** A-REX writes what it runs with beside its PID file. */
function checkRunning(site: CeSite): Finding {
  const pidFile = site.values('arex', 'pidfile').at(-1) ?? '/run/arched-arex.pid';
  const running = pidFile.replace(/\.[^./]*$/, '.cfg');
  if (running === site.file)
    return ok(
      'this is the file that A-REX runs with; without --config, the lines named are those of arc.conf',
    );
  let blocks: ReadonlyMap<string, Block>;
  try {
    blocks = parseBlocks(readFileSync(running, 'latin1'), running, () => undefined);
  } catch {
    return warning(
      `A-REX does not run (there is no ${running})`,
      'start it: arcctl service start --as-configured',
    );
  }
  if (!isRunning(site, pidFile))
    return warning(
      `A-REX does not run: ${running} is left of one that has ended (${pidFile} names no process of it)`,
      'start it: arcctl service start --as-configured',
    );
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

/** What cannot be seen counts as running. */
function isRunning({ system }: CeSite, pidFile: string): boolean {
  try {
    const pid = readFileSync(pidFile, 'latin1').trim();
    if (!existsSync(join(system.proc, '1'))) return true;
    const words = readFileSync(join(system.proc, pid, 'cmdline'), 'latin1').split('\0');
    return words.some((word) => /(^|\/)arched$/.test(word));
  } catch (error) {
    return errnoOf(error) === 'EACCES';
  }
}

/** Whether `running` has all that `written` says. It has more, since A-REX puts defaults in, but not in our
 * block. */
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
  if (!isRoot)
    findings.push(skipped(`not root: looked with the eyes of ${viewedBy}, not with theirs; run it as root`));
  return findings;
}
