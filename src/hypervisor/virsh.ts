// The hypervisor port by way of libvirt's virsh.
import { VmbatchError } from '../util/errors.ts';
import { describeRun, type Run, type RunResult } from '../util/run.ts';
import { findGuestProcess, stopGuestProcess } from './guest-process.ts';
import type { Hypervisor } from './port.ts';

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

    async list() {
      const result = await virsh(['list', '--name']);
      if (result.exitCode !== 0) throw failed('libvirt did not list its domains', result);
      return result.stdout.split('\n').filter((line) => line.trim() !== '');
    },
  };
}
