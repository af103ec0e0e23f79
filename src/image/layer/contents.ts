// What is put into a stock image so that it becomes the guest of a job: our service, and what its init starts
// it with.
import { unsuitable } from './root-file-system.ts';

/** One thing to be put in. Parents are made where they are missing; what stands there already is replaced. */
export type Change =
  | { type: 'file'; path: string; mode: number; data: Buffer; label: string }
  | { type: 'link'; path: string; target: string; label: string };

/** What the service is made of, from `share/guest`. */
export interface ServiceFiles {
  service: Buffer;
  udhcpcScript: Buffer;
  systemdUnit: Buffer;
  initScript: Buffer;
}

const SERVICE_DIRECTORY = '/usr/lib/vmbatch';

/** Paths that {@link inspect} wants to know of. */
export const PROBES = [
  '/bin/sh',
  '/usr/bin/sh',
  '/sbin/init',
  '/usr/sbin/init',
  '/usr/lib/systemd/systemd',
  '/lib/systemd/systemd',
  '/etc/inittab',
  '/etc/init.d',
  '/etc/rc.d/init.d',
  '/etc/rc.d/rc',
  '/etc/rc2.d',
  '/etc/passwd',
  '/usr/sbin/sshd',
  '/usr/sbin/dropbear',
  '/sbin/ip',
  '/bin/ip',
  '/usr/sbin/ip',
  '/usr/bin/ip',
  '/sbin/mount.nfs',
  '/usr/sbin/mount.nfs',
  '/usr/bin/cloud-init',
  '/etc/cernvm',
  '/var/lib/dbus/machine-id',
] as const;

/** What an image is, as far as it matters here. */
export interface ImageFacts {
  init: 'systemd' | 'sysvinit';
  /** Where scripts of a System V init are. */
  family: 'rpm' | 'debian';
  selinux: boolean;
  /** Whether D-Bus has a copy of the machine's id, from which systemd would take it. */
  hasDbusId: boolean;
  /** What will not keep a job from running everywhere, but here and there. */
  warnings: string[];
}

/** What the image is, from what is there.
 * @param selinuxConfig the text of `/etc/selinux/config`; undefined if there is none
 * @throws VmbatchError `node` (`image-unsuitable`) naming all that is missing */
export function inspect(present: ReadonlySet<string>, selinuxConfig: string | undefined): ImageFacts {
  const any = (...paths: string[]) => paths.some((path) => present.has(path));
  const family = any('/etc/rc.d/init.d') ? 'rpm' : 'debian';
  const isSystemd = any('/usr/lib/systemd/systemd', '/lib/systemd/systemd');
  const isSysvinit =
    any('/sbin/init', '/usr/sbin/init') &&
    (family === 'rpm' ? any('/etc/rc.d/rc') : any('/etc/init.d') && any('/etc/rc2.d'));
  const missing = [
    ...(any('/bin/sh', '/usr/bin/sh') ? [] : ['a shell (/bin/sh)']),
    ...(any('/etc/passwd') ? [] : ['/etc/passwd']),
    ...(any('/usr/sbin/sshd', '/usr/sbin/dropbear') ? [] : ['an SSH server (OpenSSH or dropbear)']),
    ...(any('/sbin/ip', '/bin/ip', '/usr/sbin/ip', '/usr/bin/ip') ? [] : ['ip (iproute2)']),
    ...(isSystemd || isSysvinit ? [] : ['systemd or a System V init']),
  ];
  if (missing.length > 0)
    throw unsuitable(
      `its root file system lacks ${missing.join(', ')}`,
      'install that in the image, and try again',
    );
  return {
    init: isSystemd ? 'systemd' : 'sysvinit',
    family,
    selinux: selinuxConfig !== undefined && !/^\s*SELINUX\s*=\s*disabled\b/m.test(selinuxConfig),
    hasDbusId: any('/var/lib/dbus/machine-id'),
    warnings: [
      ...(any('/sbin/mount.nfs', '/usr/sbin/mount.nfs')
        ? []
        : ['it has no NFS client (mount.nfs): a share by NFS cannot be mounted']),
      ...(any('/usr/bin/cloud-init')
        ? ['it has cloud-init: with "contextualisation: cloud-init" it needs no layer']
        : []),
      ...(any('/etc/cernvm') ? ['it is a CernVM: with "contextualisation: cernvm" it needs no layer'] : []),
    ],
  };
}

/** SELinux types of what is put in, as the reference policy calls them. */
const LABELS = {
  program: 'bin_t',
  script: 'initrc_exec_t',
  unit: 'systemd_unit_file_t',
  etc: 'etc_t',
  id: 'etc_runtime_t',
};
const label = (type: keyof typeof LABELS) => `system_u:object_r:${LABELS[type]}:s0`;

const MACHINE_ID = '/etc/machine-id';
const DBUS_ID = { type: 'link' as const, path: '/var/lib/dbus/machine-id', target: MACHINE_ID };

/** All changes, in order. */
export function changesFor({ init, family, hasDbusId }: ImageFacts, files: ServiceFiles): Change[] {
  const program = (name: string, data: Buffer): Change => ({
    type: 'file',
    path: `${SERVICE_DIRECTORY}/${name}`,
    mode: 0o755,
    data,
    label: label('program'),
  });
  const service = [program('vmbatch-guest', files.service), program('udhcpc-script', files.udhcpcScript)];
  if (init === 'systemd') {
    const unit = '/etc/systemd/system/vmbatch-guest.service';
    return [
      ...service,
      // Each guest makes an id of its own at its boot: DHCP servers, logs and systemd tell machines by it.
      { type: 'file', path: MACHINE_ID, mode: 0o444, data: Buffer.alloc(0), label: label('id') },
      ...(hasDbusId ? [{ ...DBUS_ID, label: label('id') }] : []),
      { type: 'file', path: unit, mode: 0o644, data: files.systemdUnit, label: label('unit') },
      {
        type: 'link',
        path: '/etc/systemd/system/multi-user.target.wants/vmbatch-guest.service',
        target: unit,
        label: label('unit'),
      },
    ];
  }
  const etc = family === 'rpm' ? '/etc/rc.d' : '/etc';
  return [
    ...service,
    {
      type: 'file',
      path: `${etc}/init.d/vmbatch-guest`,
      mode: 0o755,
      data: files.initScript,
      label: label('script'),
    },
    ...[2, 3, 4, 5].map(
      (level): Change => ({
        type: 'link',
        path: `${etc}/rc${level}.d/S99vmbatch-guest`,
        target: '../init.d/vmbatch-guest',
        label: label('etc'),
      }),
    ),
  ];
}
