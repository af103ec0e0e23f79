// The row of `check node` about the network that guests are put on.
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chooseDomainType } from '../../hypervisor/domain-type.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import { type Check, type Finding, failed, ok, warning } from '../../util/check.ts';
import { nearestDirectory } from '../../util/files/files.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import { commandLine } from '../../util/quote.ts';
import { nearestName } from '../../util/values.ts';

const INTERFACES = '/sys/class/net';
const VIRSH_MS = 10_000;

export const networkRow: Check<{ config: () => NodeConfig; run: Run }> = {
  name: 'network',
  about: 'Is the network there that guests are put on, and can its addresses be locked?',
  needs: ['node-file'],
  async check({ config, run }) {
    const { network, hypervisor } = config();
    if (network.type === 'user') return ok("QEMU's user network");
    const name = network.name ?? '';
    const problem =
      network.type === 'bridge' ? bridgeProblem(name) : await libvirtProblem(name, hypervisor.uri, run);
    const problems = problem === undefined ? [] : [problem];
    const locks = nearestDirectory(network.lockDirectory);
    try {
      accessSync(locks, constants.W_OK);
    } catch {
      problems.push(
        failed(
          `${locks} cannot be written to`,
          'locks of addresses are made there; on a share, export it without root_squash',
        ),
      );
    }
    problems.push(...filterProblems(config()));
    const pool = network.static === undefined ? '' : `, ${network.static.pool.length} addresses`;
    return problems.length > 0 ? problems : ok(`${network.type} ${name}, ${network.addressing}${pool}`);
  },
};

/** libvirt's driver for Xen takes no notice of a filter: nobody may believe that there is one. */
function filterProblems({ network, hypervisor }: NodeConfig): Finding[] {
  if (network.filter === 'off' || chooseDomainType(hypervisor.type, hypervisor.uri) !== 'xen') return [];
  const hint = 'say "filter: off" in network, and filter on the bridge of the node';
  return network.filter === 'auto'
    ? [warning('guests on Xen are not filtered: libvirt has no filters there', hint)]
    : [failed(`network.filter: found ${network.filter}, and libvirt filters nothing on Xen`, hint)];
}

const isBridge = (name: string) => existsSync(join(INTERFACES, name, 'bridge'));

const IFF_UP = 1;
const isUp = (name: string) => (Number(readFileSync(join(INTERFACES, name, 'flags'), 'utf8')) & IFF_UP) !== 0;

function bridgeProblem(name: string): Finding | undefined {
  if (isBridge(name))
    return isUp(name)
      ? undefined
      : failed(
          `the bridge ${name} is down: guests on it reach nobody`,
          commandLine('ip', 'link', 'set', name, 'up'),
        );
  const bridges = readdirSync(INTERFACES).filter(isBridge);
  const found = existsSync(join(INTERFACES, name))
    ? `${name} is an interface of this node, and no bridge`
    : `there is no bridge ${name} on this node`;
  return failed(
    `${found}; bridges: ${bridges.join(', ') || 'none'}`,
    `${didYouMean(name, bridges)}correct network.name, or make it: ${commandLine('ip', 'link', 'add', name, 'type', 'bridge')}`,
  );
}

async function libvirtProblem(name: string, uri: string, run: Run): Promise<Finding | undefined> {
  const virsh = (...words: string[]) => run('virsh', ['-c', uri, ...words], { timeoutMs: VIRSH_MS });
  const info = await virsh('net-info', '--', name);
  if (info.exitCode === 0 && /^Active:\s+yes$/m.test(info.stdout)) return undefined;
  if (info.exitCode === 0)
    return failed(
      `the network ${name} of libvirt is not active`,
      `start it: ${commandLine('virsh', '-c', uri, 'net-start', name)}; its autostart: ${commandLine('virsh', '-c', uri, 'net-autostart', name)}`,
    );
  const list = await virsh('net-list', '--all', '--name');
  if (list.exitCode !== 0)
    return failed(`libvirt does not tell its networks: ${describeRun(list)}`, 'see the log of libvirtd');
  const names = list.stdout.split('\n').filter((line) => line.trim() !== '');
  return failed(
    `libvirt has no network ${name}; networks: ${names.join(', ') || 'none'}`,
    `${didYouMean(name, names)}correct network.name, or define the network`,
  );
}

function didYouMean(name: string, names: readonly string[]): string {
  const nearest = nearestName(name, names);
  return nearest === undefined ? '' : `did you mean ${nearest}? `;
}
