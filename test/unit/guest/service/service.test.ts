// The shell functions of the guest service that decide something, under the shells that this machine has.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcePath } from '../../../../src/util/program/resources.ts';

const SERVICE = resourcePath('share/guest/vmbatch-guest');
const SHELLS = [
  ['dash', '/bin/dash'],
  ['bash', '/bin/bash'],
  ['busybox', '/bin/busybox', 'sh'],
].filter(([, program]) => existsSync(program ?? ''));

describe.each(SHELLS)('the guest service under %s', (_name, program, ...first) => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-service-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const shell = (script: string, ...args: string[]) =>
    execFileSync(program, [...first.filter(Boolean), '-c', `. ${SERVICE}\n${script}`, 'test', ...args], {
      encoding: 'utf8',
    });
  const put = (name: string, content: string) => writeFileSync(join(directory, name), content);
  const get = (name: string) => readFileSync(join(directory, name), 'utf8');

  const FIND = `load_drivers() { :; }
    pause() { :; }
    context_candidates() { candidates=' /dev/sr0 /dev/vda'; }
    tried=
    find_context && echo "$device after$tried"`;

  it('tries a CD-ROM drive again that could not be mounted at first, and other disks once', () => {
    const output = shell(
      `try_context() {
        tried="$tried \${1#/dev/}"
        [ "$tried" = ' sr0 vda sr0 sr0' ]
      }
      ${FIND}`,
    );
    expect(output).toBe('/dev/sr0 after sr0 vda sr0 sr0\n');
  });

  it('does not take a disk without the label for the context', () => {
    const output = shell(
      `dd() { case $1 in if=/dev/vda) echo root ;; if=/dev/vdb) echo cidata ;; esac; }
      mount() { shift 4; [ "$1" = /dev/vdb ] && : >"$2/context.sh"; }
      ${FIND.replace(' /dev/sr0 /dev/vda', ' /dev/vda /dev/vdb')}`.replace(
        'tried=',
        `STATE=${directory}; mkdir $STATE/context; tried=`,
      ),
    );
    expect(output).toBe('/dev/vdb after\n');
  });

  it('writes every text as JSON that reads back', () => {
    const texts = [
      'plain text',
      'a "quoted" \\ one',
      'tab\tline\nbell\x07',
      '',
      '$(id) `id` * %s \\u0041',
      "it's",
    ];
    const output = shell(
      'for text; do json_escape "$text"; printf \'"%s"\\n\' "$json_escaped"; done',
      ...texts,
    );
    expect(
      output
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(texts);
  });

  it('replaces bytes that are not ASCII, which could break the encoding', () => {
    const output = shell('json_escape "$1"; printf \'"%s"\' "$json_escaped"', 'Zürich');
    expect(JSON.parse(output)).toMatch(/^Z\?{1,2}rich$/);
  });

  it('writes only digits where JSON wants a number', () => {
    const output = shell('json={; json_number a 12; json_number b "1;x"; json_number c ""; echo "$json"');
    expect(output).toBe('{,"a":12,"b":0,"c":0\n');
  });

  it('makes the same user and groups however often it runs, before those of the image', () => {
    put('passwd', 'root:x:0:0::/root:/bin/sh\npilot:x:77:77::/old:/bin/false\n');
    put('group', 'root:x:0:\nusers:x:100:anna,bert\nprod:x:900:carl');
    put('shadow', 'root:*:1::::::\n');
    put('shells', '/bin/sh\n');
    const make = () =>
      shell(
        `ETC=$1 VMBATCH_USER=pilot VMBATCH_UID=14301 VMBATCH_GROUP=alice VMBATCH_GID=14300
         VMBATCH_GROUPS='users:100 prod:901 alice:14300' VMBATCH_HOME=/shared/pilot VMBATCH_SHELL=/bin/sh
         VMBATCH_LOGIN=vmbatch-job LOGIN_HOMES=$1/login
         VMBATCH_MOUNTS='nfs4 server:/x /shared hard' sshd=dropbear
         log() { :; }
         home_is_shared
         make_user`,
        directory,
      );
    make();
    const passwd = `pilot:x:14301:14300::${directory}/login/pilot:/bin/sh
vmbatch-job:x:14301:14300::${directory}/login/vmbatch-job:/bin/sh
root:x:0:0::/root:/bin/sh
`;
    const group =
      'alice:x:14300:\nprod:x:901:pilot,vmbatch-job\nusers:x:100:anna,bert,pilot,vmbatch-job\nroot:x:0:\n';
    expect([get('passwd'), get('group'), get('shells')]).toEqual([passwd, group, '/bin/sh\n']);
    expect(get('shadow')).toBe(
      'pilot:*:19000:0:99999:7:::\nvmbatch-job:*:19000:0:99999:7:::\nroot:*:1::::::\n',
    );
    make();
    expect([get('passwd'), get('group').split('\n').sort()]).toEqual([passwd, group.split('\n').sort()]);
  });

  it.each([
    ['/bin/dash', '/bin/dash', ''],
    ['/usr/sbin/nologin', '/bin/bash', '/usr/sbin/nologin runs no commands: the user gets /bin/bash\n'],
    ['/bin/false', '/bin/bash', '/bin/false runs no commands: the user gets /bin/bash\n'],
    ['/no/such/zsh', '/bin/bash', '/no/such/zsh is not in the image: the user gets /bin/bash\n'],
  ])("gives a user whose shell on the node is %s the guest's %s", (onNode, inGuest, said) => {
    const script = `VMBATCH_SHELL=$1; log() { printf '%s\\n' "$1"; }; choose_shell; printf %s "$shell"`;
    expect(shell(script, onNode)).toBe(`${said}${inGuest}`);
  });

  it.each([
    ['/shared/pilot', 'nfs4 s:/x /shared hard', 'yes'],
    ['/shared', 'nfs4 s:/x /shared/ hard', 'yes'],
    ['/sharedhome/pilot', 'nfs4 s:/x /shared hard', ''],
    ['/home/pilot', 'nfs4 s:/x /home/pilot/session hard\nnfs4 s:/y /data hard', ''],
    ['/home/pilot', 'nfs4 s:/y /data hard\nnfs4 s:/x /home hard', 'yes'],
    ['/home/pilot', '', ''],
  ])('knows whether the home %s is shared with the mounts %j', (home, mounts, expected) => {
    expect(shell('VMBATCH_HOME=$1 VMBATCH_MOUNTS=$2; home_is_shared; echo "$shared"', home, mounts)).toBe(
      `${expected}\n`,
    );
  });

  it('takes names that no file could hold, and paths with blanks and quotes', () => {
    const script = `log() { printf '%s\\n' "$1"; }
      VMBATCH_USER='DOM\\alice' VMBATCH_UID=1000 VMBATCH_GROUP='domain users' VMBATCH_GID=1001 VMBATCH_TIME=
      VMBATCH_GROUPS='a:b:7 prod$:8 prod:9' VMBATCH_HOME="/home/o'neill x" VMBATCH_SHELL=/bin/sh
      VMBATCH_READY_FILE='/my share/r' VMBATCH_HOSTNAME=h
      check_context
      printf '%s|' "$VMBATCH_USER" "$VMBATCH_GROUP" $VMBATCH_GROUPS`;
    expect(shell(script).split('\n')).toEqual([
      "the user 'DOM\\alice' is called user1000 here: its id is what matters",
      "the group 'domain users' is called group1001 here: its id is what matters",
      "the group 'a:b' is called group7 here: its id is what matters",
      "the group 'prod$' is called group8 here: its id is what matters",
      'user1000|group1001|group7:7|group8:8|prod:9|',
    ]);
  });

  it.each(['/', '/tmp', '/home/pilot', "/home/o'neill x"])(
    'makes the home %s if it is not there, and changes nothing about one that is',
    (home) => {
      const root = join(directory, 'root');
      const path = join(root, home);
      const make = () =>
        shell(
          `VMBATCH_HOME=$1 VMBATCH_UID=$(id -u) VMBATCH_GID=$(id -g) VMBATCH_USER=pilot shared= sshd=openssh
          log() { :; }
          make_home
          printf '%s|%s' "$kept_home" "$login_home"`,
          path,
        );
      expect([make(), statSync(path).mode & 0o7777]).toEqual([`|${path}`, 0o755]);
      chmodSync(path, 0o1711);
      expect([make(), statSync(path).mode & 0o7777]).toEqual([`yes|${path}`, 0o1711]);
    },
  );

  it.each([
    ['/dev/null', 'a file'],
    ['/proc/nosuch/home', 'a place where nothing can be made'],
  ])('gives a user whose home is %s, %s, another one', (home) => {
    const script = `VMBATCH_HOME=$2 VMBATCH_UID=$(id -u) VMBATCH_GID=$(id -g) VMBATCH_USER=pilot shared= sshd=openssh
      LOGIN_HOMES=$1/homes
      log() { :; }
      make_home
      printf '%s' "$VMBATCH_HOME $login_home"`;
    expect(shell(script, directory, home)).toBe(`${directory}/homes/pilot ${directory}/homes/pilot`);
  });

  it('has dropbear look into a home of its own where the home was there already, and leads to the true one', () => {
    const home = join(directory, "it's my home");
    mkdirSync(home);
    put("it's my home/.profile", 'echo mine\n');
    const script = `VMBATCH_HOME=$2 VMBATCH_USER=pilot VMBATCH_AUTHORIZED_KEY='ssh-ed25519 AAAA' shared= sshd=dropbear
      LOGIN_HOMES=$1/homes
      log() { :; }
      make_home
      install_authorised_key
      cd / && . "$login_home/.profile" && pwd`;
    expect(shell(script, directory, home)).toBe(`mine\n${home}\n`);
    expect(readdirSync(home)).toEqual(['.profile']);
  });

  it('finds a mount point with a blank among what is mounted, and mounts none twice', () => {
    const script = `VMBATCH_MOUNTS='nfs4 s:/a\\040b '"$1"'/grid\\040data hard'
      log() { printf '%s\\n' "$1"; }
      fail() { printf 'failed: %s\\n' "$*"; exit; }
      is_mounted() { return 1; }
      mount_nfs() { printf '<%s>' "$@"; echo; }
      mount_shares
      plain_path '/x\\134040\\040y' && printf '%s' "$plain"`;
    expect(shell(script, directory)).toBe(
      `<nfs4><s:/a b><${directory}/grid data><hard>\ns:/a b mounted on ${directory}/grid data\n/x\\040 y`,
    );
  });

  it.each([
    ['VMBATCH_UID=0', 'a job never runs as root'],
    ['VMBATCH_USER=root', 'a job never runs as root'],
    ['VMBATCH_UID=12a', '12a is not a number'],
    ['VMBATCH_GROUPS=a:b', 'a:b is no name:gid'],
    ['VMBATCH_HOME=relative', 'relative is not an absolute path'],
    ['VMBATCH_HOME=/a:b', 'home and shell must not hold a colon'],
    ["VMBATCH_HOME='/a\nb'", 'a path must not hold a line end'],
    ['VMBATCH_UID=', ' is not a number'],
    ['VMBATCH_HOSTNAME=a_b', 'a_b is no host name'],
  ])('refuses a context with %s', (change, message) => {
    const script = `. ${SERVICE}
      VMBATCH_USER=u VMBATCH_UID=1000 VMBATCH_GROUP=g VMBATCH_GID=1000 VMBATCH_GROUPS= VMBATCH_TIME= VMBATCH_HOME=/h
      VMBATCH_SHELL=/bin/sh VMBATCH_READY_FILE=/r VMBATCH_HOSTNAME=h STATE=$1
      log() { printf '%s\\n' "$1"; }
      check_context
      echo accepted
      ${change}
      check_context
      echo 'accepted again'`;
    const result = spawnSync(program, [...first.filter(Boolean), '-c', script, 'test', directory], {
      encoding: 'utf8',
    });
    expect([result.stdout, result.stderr, result.status]).toEqual([
      `accepted\nchecking context.sh failed: ${message}\n`,
      '',
      1,
    ]);
  });
});
