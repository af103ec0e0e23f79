// The hypervisor port by way of libvirt's virsh.
import { isIP } from 'node:net';
import { VmbatchError } from '../util/errors.ts';
import { describeRun, type Run, type RunResult } from '../util/processes/run.ts';
import { findGuestProcess, stopGuestProcess } from './guest-process.ts';
import type { GuestAddress, Hypervisor } from './port.ts';

export interface VirshOptions {
  /** libvirt connection, such as `qemu:///system`. */
  uri: string;
  /** For each call of virsh that is not given less. */
  timeoutMs: number;
  run: Run;
}

// virsh has one exit code for all failures; these texts are libvirt's and are asked for in C.UTF-8.
const NO_SUCH_DOMAIN =
  /failed to get domain|Domain not found|no domain with matching name|domain is not running/i;
const NOT_REACHABLE =
  /failed to connect to the hypervisor|Failed to connect socket|Connection refused|End of file while reading/i;

/** Lines of `virsh domifaddr`: name, MAC, protocol, address with its prefix length. */
function parseAddresses(text: string): GuestAddress[] {
  return text.split('\n').flatMap((line) => {
    const [, mac = '', protocol = '', address = ''] = line.trim().split(/\s+/);
    if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac) || !/^ipv[46]$/.test(protocol)) return [];
    const [plain = ''] = address.split('/');
    return isIP(plain) === 0 ? [] : [{ mac: mac.toLowerCase(), address: plain }];
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** An epilogue has more to do than to wait for a libvirtd that hangs. */
const DESTROY_LIMIT_MS = 10_000;

export function openVirsh(options: VirshOptions): Hypervisor {
  const virsh = (args: readonly string[], limitMs = options.timeoutMs): Promise<RunResult> =>
    options.run('virsh', ['--quiet', '--connect', options.uri, ...args], {
      timeoutMs: Math.min(options.timeoutMs, limitMs),
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });

  const failed = (what: string, result: RunResult): VmbatchError => {
    const unreachable = result.notFound || result.timedOut || NOT_REACHABLE.test(result.stderr);
    return new VmbatchError({
      fault: 'node',
      code: unreachable ? 'hypervisor-unreachable' : 'hypervisor-refused',
      message: unreachable
        ? `libvirt at ${options.uri} cannot be reached: ${describeRun(result)}`
        : `${what}: ${describeRun(result)}`,
      hint: unreachable
        ? `is libvirtd running on this node? try: virsh -c ${options.uri} version`
        : 'see the log of libvirtd',
      cause: new Error(result.stderr.trim() || describeRun(result)),
    });
  };

  return {
    async create(xmlFile, limitMs) {
      const result = await virsh(['create', xmlFile], limitMs);
      if (result.exitCode !== 0) throw failed('libvirt did not start the domain', result);
    },

    async destroy(name) {
      const result = await virsh(['destroy', name], DESTROY_LIMIT_MS);
      if (result.exitCode === 0 || NO_SUCH_DOMAIN.test(result.stderr)) return;
      // libvirt cannot help: the guest must not outlive its job, so its process is ended directly.
      const guest = findGuestProcess(name);
      const ended = guest === undefined ? undefined : await stopGuestProcess(guest);
      const silent = NOT_REACHABLE.test(result.stderr) || result.timedOut || result.notFound;
      if (ended === false || (ended === undefined && !silent))
        throw failed(`libvirt did not destroy the domain ${name}`, result);
    },

    async describe(name) {
      const result = await virsh(['dumpxml', name]);
      if (result.exitCode === 0) return result.stdout;
      if (NO_SUCH_DOMAIN.test(result.stderr)) return undefined;
      throw failed(`libvirt does not describe the domain ${name}`, result);
    },

    async state(name) {
      const result = await virsh(['domstate', name, '--reason']);
      if (result.exitCode !== 0) {
        if (NO_SUCH_DOMAIN.test(result.stderr)) return undefined;
        throw failed(`libvirt does not tell the state of ${name}`, result);
      }
      const [, state = '', reason = ''] = /^([a-z ]+?)(?: \((.*)\))?\s*$/m.exec(result.stdout.trim()) ?? [];
      if (state !== 'paused') return { state, reason, diskErrors: [] };
      const errors = await virsh(['domblkerror', name]);
      const lines = errors.exitCode === 0 ? errors.stdout.split('\n') : [];
      return {
        state,
        reason,
        diskErrors: lines.filter((line) => /^\w+: /.test(line)).map((line) => line.trim()),
      };
    },

    async addresses(name, source) {
      const result = await virsh(['domifaddr', name, '--full', '--source', source]);
      if (result.exitCode !== 0) throw failed(`libvirt does not tell addresses of ${name}`, result);
      return parseAddresses(result.stdout);
    },

    async agent(name, command, limitMs) {
      const seconds = String(Math.max(1, Math.ceil(limitMs / 1000)));
      const words = ['qemu-agent-command', name, '--timeout', seconds, JSON.stringify(command)];
      const result = await virsh(words, limitMs + 1_000);
      const answer: unknown = result.exitCode === 0 ? parseJson(result.stdout) : undefined;
      if (typeof answer === 'object' && answer !== null && 'return' in answer) return answer.return;
      throw new VmbatchError({
        fault: 'node',
        code: 'agent-silent',
        message: `the guest agent of ${name} does not answer: ${describeRun(result)}`,
        hint: 'does the image run qemu-guest-agent?',
      });
    },

    async filters() {
      const result = await virsh(['nwfilter-list']);
      // A connection without the driver says that it does not support the call.
      if (result.exitCode !== 0) return [];
      return result.stdout.split('\n').flatMap((line) => {
        const match = /^\s*[0-9a-f-]{36}\s+(\S+)\s*$/.exec(line);
        return match?.[1] === undefined ? [] : [match[1]];
      });
    },

    async list() {
      const result = await virsh(['list', '--name']);
      if (result.exitCode !== 0) throw failed('libvirt did not list its domains', result);
      return result.stdout.split('\n').filter((line) => line.trim() !== '');
    },
  };
}
