// Checks of what others learn of a CE: the numbers that JAliEn submits by, and the clocks that everybody's
// times come from.
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pbsnodes } from '../../batch/torque/answers/pbsnodes.ts';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { describeRun } from '../../util/processes/run.ts';
import { JALIEN_ATTRIBUTES, jalienFilter, viewOfJalien } from './jalien-view.ts';
import { type CeSite, DEFAULT_SESSION_DIRECTORY } from './site.ts';

/** Never another machine's: what is asked is whether this one answers. */
const SERVER = '127.0.0.1';
const DEFAULT_PORT = '2135';

/** Clocks that differ by less are as good as one. Seconds. */
const CLOCK_GRAIN_S = 10;
/** Moms report every 45 s (`$status_update_time`); one that is late is no clock that is late. Seconds. */
const REPORT_S = 300;
const MOST_NAMES = 1000;

export const INFORMATION_CHECKS: readonly Check<CeSite>[] = [
  {
    name: 'jalien',
    about: 'JAliEn finds the numbers of running and waiting jobs that it submits by, in LDAP',
    needs: ['configuration'],
    check: checkJalien,
  },
  {
    name: 'clocks',
    about: 'CE, batch server and share agree on the time',
    needs: ['server', 'session-directories'],
    check: checkClocks,
  },
];

/** The very search of JAliEn's, by ldapsearch, which ARC's LDAP server (bdii) depends on. */
async function checkJalien(site: CeSite): Promise<Finding> {
  const vos = [...site.blocks.keys()]
    .filter((name) => name.startsWith('queue:') || name === 'infosys/cluster')
    .flatMap((name) => site.values(name, 'advertisedvo'));
  const vo = vos.includes('alice') ? 'alice' : vos[0];
  if (vo === undefined)
    return warning(
      'no queue has advertisedvo: JAliEn finds no share of its VO, and submits nothing',
      'write advertisedvo = alice into [queue:NAME], and restart A-REX',
    );
  if (!site.blocks.has('infosys/ldap'))
    return warning(
      'there is no [infosys/ldap] block: JAliEn gets no answer, takes that for 444444 waiting jobs, and submits nothing',
      'add [infosys], [infosys/ldap] and [infosys/glue2], and start arc-infosys-ldap',
    );
  const port = site.values('infosys/ldap', 'port').at(-1) ?? DEFAULT_PORT;
  const server = `ldap://${SERVER}:${port}`;
  const words = ['-x', '-LLL', '-o', 'ldif-wrap=no', '-o', 'nettimeout=3', '-l', '3', '-H', server];
  const search = [...words, '-b', 'o=glue', jalienFilter(vo), ...JALIEN_ATTRIBUTES];
  const env = { ...process.env, PATH: site.system.servicePath };
  const result = await site.run('ldapsearch', search, { env });
  if (result.notFound) return skipped('ldapsearch is not installed (Debian: ldap-utils)');
  // 32: there is nothing below o=glue yet.
  if (result.exitCode !== 0 && result.exitCode !== 32)
    return warning(
      `${server} does not answer (${describeRun(result)}): JAliEn takes that for 444444 waiting jobs, and submits nothing`,
      'look whether arc-infosys-ldap runs, and into its log (/var/log/arc/infosys)',
    );
  const { hostname } = site.configuration;
  const { shares, running, waiting, leftOut, hasOldEndpoint } = viewOfJalien(result.stdout, hostname);
  if (shares.length === 0)
    return warning(
      `JAliEn finds no share of the VO ${vo} that counts (${leftOut.join('; ') || 'none is published'}): it takes that for 444444 waiting jobs, and submits nothing`,
      'look at advertisedvo, [common] hostname, and the log of the provider ([infosys] logfile); after a start it takes minutes',
    );
  const counted = `JAliEn counts ${running} running and ${waiting} waiting jobs of the VO ${vo} (${shares.join(', ')})`;
  return ok(
    hasOldEndpoint
      ? counted
      : `${counted}; a JAliEn that still looks for ${hostname}:2811 finds nothing and submits nothing`,
  );
}

/** By what is there already: the time at which the server last heard of a node, the newest name in a session
 * directory. */
async function checkClocks(site: CeSite): Promise<Finding[]> {
  const findings: Finding[] = [];
  const now = Date.now() / 1000;
  const heard = (await pbsnodes(site.torque)).flatMap(({ reportedAt }) => reportedAt ?? []);
  const newest = Math.max(...heard);
  if (heard.length > 0 && newest - now > CLOCK_GRAIN_S)
    findings.push(differs('the batch server is', newest - now, 'ahead of this machine'));
  else if (heard.length > 0 && now - newest > REPORT_S)
    findings.push(
      warning(
        `the batch server has heard of no node for ${seconds(now - newest)}, by this machine's clock`,
        'compare the clocks (date; chronyc tracking) on both, and look whether the moms run',
      ),
    );
  for (const path of directoriesOf(site)) {
    const ahead = newestIn(path) - now;
    if (ahead > CLOCK_GRAIN_S)
      findings.push(differs(`files in ${path} are`, ahead, 'ahead of this machine (file server or nodes)'));
  }
  if (findings.length > 0) return findings;
  return [
    heard.length === 0
      ? skipped('no node has reported to the batch server')
      : ok(`no difference of more than ${CLOCK_GRAIN_S} s is to be seen`),
  ];
}

const seconds = (value: number) => `${Math.round(value)} s`;
const differs = (who: string, by: number, how: string) =>
  failed(
    `${who} ${seconds(by)} ${how}`,
    'set the clocks by the same time servers: times of jobs, proxies and ready files are compared between machines',
  );

const directoriesOf = (site: CeSite) => {
  const given = site.values('arex', 'sessiondir').map((value) => value.split(/\s+/)[0] ?? '');
  return (given.length > 0 ? given : [DEFAULT_SESSION_DIRECTORY]).filter((path) => path.startsWith('/'));
};

/** Seconds since 1970; 0 if there is nothing. */
function newestIn(path: string): number {
  const times = readdirSync(path)
    .slice(0, MOST_NAMES)
    .map((name) => (lstatSync(join(path, name), { throwIfNoEntry: false })?.ctimeMs ?? 0) / 1000);
  return Math.max(0, ...times);
}
