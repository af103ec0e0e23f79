// The programs that vmbatch starts, other than TORQUE's and ARC's own: where each is needed, and what for.
// The checks look for them, so that nobody learns from a job that one is missing.

/** `always`: no job runs without it. `sometimes`: something fails without it. Absent: only commands that an
 * admin gives need it, and say so. */
type Need = 'always' | 'sometimes';

export interface Program {
  name: string;
  /** The Debian package that has it. */
  debian: string;
  /** What is not possible without it, to follow `needed`. */
  for: string;
  node?: Need;
  ce?: Need;
}

/** What a check says of one that is not there, and what to do.
 * @param path where it was looked for */
export const absent = ({ name, debian, for: purpose }: Program, path: string) =>
  [`${name} is not installed (PATH=${path}): it is needed ${purpose}`, `apt-get install ${debian}`] as const;

export const PROGRAMS: readonly Program[] = [
  { name: 'virsh', debian: 'libvirt-clients', for: 'to start and end guests', node: 'always' },
  { name: 'qemu-img', debian: 'qemu-utils', for: "to make guests' disks", node: 'always' },
  { name: 'sh', debian: 'dash', for: 'to start anything', node: 'always', ce: 'always' },
  {
    ...{ name: 'setpriv', debian: 'util-linux', for: "to work on users' files as the users" },
    ...{ node: 'always', ce: 'always' },
  },
  { name: 'getent', debian: 'libc-bin', for: 'to look accounts up', node: 'always', ce: 'always' },
  { name: 'id', debian: 'coreutils', for: "to know an account's groups", node: 'always', ce: 'always' },
  {
    name: 'test',
    debian: 'coreutils',
    for: "to see what users' jobs may use",
    node: 'always',
    ce: 'sometimes',
  },
  {
    name: 'tar',
    debian: 'tar',
    for: 'by jobs whose session directory is carried into the guest',
    node: 'sometimes',
  },
  {
    ...{
      name: 'logger',
      debian: 'bsdutils',
      for: 'to tell the log of the system what comes before our own log is known',
    },
    node: 'sometimes',
  },
  { name: 'sleep', debian: 'coreutils', for: 'by jobs on several nodes', node: 'sometimes' },
  { name: 'env', debian: 'coreutils', for: 'by check ce', ce: 'sometimes' },
  { name: 'stat', debian: 'coreutils', for: 'by check ce', ce: 'sometimes' },
  { name: 'ldapsearch', debian: 'ldap-utils', for: 'by check ce, to ask what JAliEn asks' },
  { name: 'ssh', debian: 'openssh-client', for: 'by vmbatch ssh' },
  { name: 'qemu-storage-daemon', debian: 'qemu-system-common', for: 'by vmbatch image prepare' },
  { name: 'debugfs', debian: 'e2fsprogs', for: 'by vmbatch image prepare' },
  { name: 'e2fsck', debian: 'e2fsprogs', for: 'by vmbatch image prepare' },
  { name: 'umount', debian: 'mount', for: 'by vmbatch image prepare' },
  {
    name: 'guestfish',
    debian: 'libguestfs-tools',
    for: 'by vmbatch image prepare, for file systems other than ext4',
  },
  { name: 'apt-get', debian: 'apt', for: 'by vmbatch image build-demo' },
  { name: 'apt-cache', debian: 'apt', for: 'by vmbatch image build-demo' },
  { name: 'dpkg-deb', debian: 'dpkg', for: 'by vmbatch image build-demo' },
  { name: 'mke2fs', debian: 'e2fsprogs', for: 'by vmbatch image build-demo' },
];
