// What vmbatch needs of a hypervisor. Nothing outside this folder knows libvirt.

/** The domain types that are known to work; what libvirt calls the domain's `type`. */
export type DomainType = 'kvm' | 'qemu' | 'xen';

/** The host process that is a running guest, where there is one. Both numbers together are unique for as
 * long as the host runs: a process id alone may come to mean another process. */
export interface GuestProcess {
  pid: number;
  /** Clock ticks after the host's start, field 22 of /proc/PID/stat. */
  startTicks: number;
}

export interface Hypervisor {
  /** Starts a transient domain: it leaves no definition behind when it ends.
   * @param limitMs give up after that; the hypervisor may still come to an end of it by itself.
   * @throws VmbatchError `node`: hypervisor not reachable, or the domain refused. */
  create(xmlFile: string, limitMs: number): Promise<void>;
  /** Ends the domain at once and waits until it is gone. No error if there is none.
   * @throws VmbatchError `node` if it may still run. */
  destroy(name: string): Promise<void>;
  /** Names of all running domains. */
  list(): Promise<string[]>;
  /** The XML of a running domain; undefined if there is none of that name.
   * @throws VmbatchError `node`: hypervisor not reachable */
  describe(name: string): Promise<string | undefined>;
  /** Whether a domain runs, and if not, why; undefined if there is none of that name.
   * @throws VmbatchError `node`: hypervisor not reachable */
  state(name: string): Promise<DomainState | undefined>;
  /** Addresses of a domain's interfaces, as far as the source knows them.
   * @throws VmbatchError `node`: hypervisor not reachable, or no such domain */
  addresses(name: string, source: AddressSource): Promise<GuestAddress[]>;
  /** Asks QEMU's guest agent in a domain.
   * @param command as the agent takes it, such as `{ execute: 'guest-ping' }`
   * @returns what its answer holds under `return`; foreign data
   * @throws VmbatchError `node` (`agent-silent`) if it does not answer in time, or with an error */
  agent(name: string, command: object, limitMs: number): Promise<unknown>;
  /** Names of the network filters that the connection knows; none where it has no such thing. */
  filters(): Promise<string[]>;
}

/** In libvirt's words. */
export interface DomainState {
  /** `running`, `paused`, … */
  state: string;
  /** `booted`, `I/O error`, … */
  reason: string;
  /** `vda: no space`: disks that the hypervisor could not write to. */
  diskErrors: string[];
}

/** Where addresses are looked up: the leases of libvirt's own networks, the host's neighbours, the guest
 * agent. */
export type AddressSource = 'lease' | 'arp' | 'agent';

export interface GuestAddress {
  mac: string;
  /** Without a prefix length. */
  address: string;
}
