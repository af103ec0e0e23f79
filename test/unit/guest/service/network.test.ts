// What the guest service does about the network, the SSH server and the image's own files, with stand-ins for
// the programs that it calls and a /proc of our own.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcePath } from '../../../../src/util/program/resources.ts';

const SERVICE = resourcePath('share/guest/vmbatch-guest');
const SHELLS = [['/bin/dash'], ['/bin/bash'], ['/bin/busybox', 'sh']].filter(([program]) =>
  existsSync(program ?? ''),
);

it('the guest service writes no file of the image in place', () => {
  // Directories of their own, made for what we put there, and a look whether anything can be written at all.
  const own =
    /\$ETC\/(NetworkManager\/conf\.d|systemd\/(network|timesyncd\.conf\.d))\/|\$ETC\/\.vmbatch"|\/etc\/ssh\/vmbatch\//;
  const written = [SERVICE, resourcePath('share/guest/udhcpc-script')].flatMap((path) =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => /[^>2]>"?(\$ETC|\/etc)/.test(line) && !own.test(line)),
  );
  expect(written.filter((line) => !line.includes('/etc/resolv.conf.vmbatch'))).toEqual([]);
});

describe.each(SHELLS)('the guest service under %s', (program = '', ...first) => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-net-'));
    for (const name of ['etc', 'sys', 'proc/net', 'state'])
      mkdirSync(join(directory, name), { recursive: true });
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const words = (script: string) => [
    ...[...first, '-c'],
    `. ${SERVICE}\nSTATE=$1/state ETC=$1/etc SYS=$1/sys PROC=$1/proc interface=eth0\nlog() { echo "log: $1"; }\npause() { :; }\n${script}`,
    ...['test', directory],
  ];
  const shell = (script: string) => execFileSync(program, words(script), { encoding: 'utf8' });
  const put = (path: string, text: string) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  };
  const get = (path: string) => readFileSync(join(directory, path), 'utf8');
  const process = (pid: number, name: string) => put(`proc/${pid}/comm`, `${name}\n`);

  /** Programs that say how they were called. */
  const CALLED = `for called in ip nmcli systemctl kill udhcpc dhclient; do
      eval "$called() { echo \\"$called \\$*\\" >>$1/called; }"
    done
    wait_for_address() { :; }
    wait_for_link() { :; }
    address_of() { address=192.0.2.7; }
    VMBATCH_HOSTNAME=vm.example.org`;
  const called = () => (existsSync(join(directory, 'called')) ? get('called').trimEnd().split('\n') : []);

  it('replaces a file by rename, with the mode that it had, and a link by a file', () => {
    put('etc/shadow', 'root:*:1::::::\n');
    chmodSync(join(directory, 'etc/shadow'), 0o640);
    put('run/stub', 'nameserver 127.0.0.53\n');
    symlinkSync('../run/stub', join(directory, 'etc/resolv.conf'));
    const { ino } = statSync(join(directory, 'etc/shadow'));
    shell('replace_first $ETC/shadow u "u:*:1::::::"; VMBATCH_SEARCH=; write_resolver 192.0.2.53');
    expect(get('etc/shadow')).toBe('u:*:1::::::\nroot:*:1::::::\n');
    const after = statSync(join(directory, 'etc/shadow'));
    expect([after.mode & 0o777, after.ino === ino]).toEqual([0o640, false]);
    expect([get('etc/resolv.conf'), get('run/stub')]).toEqual([
      'nameserver 192.0.2.53\n',
      'nameserver 127.0.0.53\n',
    ]);
    expect(execFileSync('ls', [join(directory, 'etc')], { encoding: 'utf8' })).toBe('resolv.conf\nshadow\n');
  });

  it('never shows an account file without the accounts that are in it, however often it changes one', async () => {
    put('etc/passwd', 'root:x:0:0::/root:/bin/sh\n');
    const writer = spawn(
      program,
      words(
        'n=0; while [ $n -lt 30 ]; do replace_first $ETC/passwd u "u:x:1:1::/:/bin/sh$n"; n=$((n + 1)); done',
      ),
      { stdio: 'inherit' },
    );
    const ended = new Promise((resolve) => writer.once('close', resolve));
    let without = 0;
    let looks = 0;
    while (writer.exitCode === null) {
      if (!get('etc/passwd').includes('root:x:0:0')) without++;
      if (++looks % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect([await ended, without]).toEqual([0, 0]);
  });

  it.each([
    [
      'NetworkManager',
      'etc/NetworkManager/conf.d/05-vmbatch.conf',
      /ipv4\.dhcp-client-id=mac/,
      'nmcli device connect eth0',
    ],
    [
      'systemd-network',
      'etc/systemd/network/05-vmbatch.network',
      /ClientIdentifier=mac/,
      'systemctl restart systemd-networkd',
    ],
    [
      'init',
      'state/dhclient.conf',
      /send dhcp-client-identifier = hardware;/,
      /^dhclient -1 -cf .*dhclient\.conf .* eth0$/,
    ],
  ] as const)('has %s tell the DHCP server who it is by the MAC', (name, path, wanted, call) => {
    process(7, name);
    shell(`${CALLED}\nunset -f udhcpc\ncommand() { [ "$2" = dhclient ]; }\nstart_dhcp`);
    expect(get(path)).toMatch(wanted);
    expect(called()).toContainEqual(typeof call === 'string' ? call : expect.stringMatching(call));
  });

  it('asks what works on the interface already, not another client of the image as well', () => {
    process(7, 'NetworkManager');
    process(8, 'systemd-network');
    shell(`${CALLED}\nstart_dhcp`);
    expect(called().filter((line) => /^(udhcpc|dhclient|systemctl)/.test(line))).toEqual([]);
  });

  const STATIC = `VMBATCH_ADDRESS=192.0.2.7/24 VMBATCH_GATEWAY=192.0.2.1 VMBATCH_ADDRESS6= VMBATCH_GATEWAY6=
    VMBATCH_DNS= VMBATCH_SEARCH= VMBATCH_MAC= VMBATCH_NET=static
    find_interface() { :; }
    name_address() { :; }`;

  it('takes the interface from whatever works on it before it sets a static address', () => {
    for (const [index, name] of ['NetworkManager', 'systemd-network', 'dhclient', 'bash'].entries())
      process(70 + index, name);
    mkdirSync(join(directory, 'etc/NetworkManager'));
    const said = shell(`${CALLED}\n${STATIC}\nstart_network`);
    expect(said).toContain('log: took eth0 from NetworkManager\n');
    expect(said).toContain('log: took eth0 from systemd-networkd\n');
    const calls = called();
    const set = calls.indexOf('ip addr replace 192.0.2.7/24 dev eth0');
    for (const call of [
      'nmcli device set eth0 managed no',
      'systemctl restart systemd-networkd',
      'kill 72',
      'ip -4 addr flush dev eth0 scope global',
    ]) {
      expect(calls).toContain(call);
      expect(calls.indexOf(call), call).toBeLessThan(set);
    }
    expect(calls.filter((line) => line.startsWith('kill'))).toEqual(['kill 72']);
    expect(get('etc/NetworkManager/conf.d/05-vmbatch.conf')).toContain(
      'unmanaged-devices=interface-name:eth0',
    );
    expect(get('etc/systemd/network/05-vmbatch.network')).toContain('Unmanaged=yes');
  });

  it('adds what the tools of the image have left out of the static addresses, and nothing else', () => {
    const there = `ip() {
        case "$*" in
          '-6 -o addr show'*) echo '2: eth0    inet6 2001:db8::7/64 scope global' ;;
          '-6 route show') echo 'default via 2001:db8::1 dev eth0 metric 1024' ;;
          *show*) ;;
          *) echo "ip $*" >>$1/called ;;
        esac
      }`.replaceAll('$1', directory);
    shell(
      `${CALLED}\n${STATIC}\n${there}\nVMBATCH_NET=none VMBATCH_ADDRESS6=2001:db8::7/64 VMBATCH_GATEWAY6=2001:db8::1
      start_network`,
    );
    expect(called()).toEqual([
      'ip addr replace 192.0.2.7/24 dev eth0',
      'ip -4 route replace default via 192.0.2.1 dev eth0',
    ]);
    expect(get('state/address')).toBe('192.0.2.7\n');
  });

  it('reaches a gateway outside the network on the link', () => {
    const routes = `tries=0
      ip() {
        case "$*" in *show*) return ;; esac
        echo "ip $*" >>${directory}/called
        case "$*" in *default*) tries=$((tries + 1)); [ -e ${directory}/on-link ] ;; *"route replace 198"*) : >${directory}/on-link ;; esac
      }`;
    shell(`${CALLED}\n${STATIC}\n${routes}\nVMBATCH_GATEWAY=198.51.100.1\nset_static_addresses`);
    expect(called()).toEqual([
      'ip addr replace 192.0.2.7/24 dev eth0',
      'ip -4 route replace default via 198.51.100.1 dev eth0',
      'ip -4 route replace 198.51.100.1 dev eth0',
      'ip -4 route replace default via 198.51.100.1 dev eth0',
    ]);
  });

  /** Who listens on port 22: pairs of a socket and the process that holds it. */
  const listeners = (...held: [inode: number, pid: number][]) => {
    const head =
      '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
    const row = (port: string, state: string, inode: number) =>
      `   0: 00000000:${port} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0 100 0\n`;
    put(
      'proc/net/tcp',
      `${head}${row('0016', '01', 9)}${row('0017', '0A', 8)}${held.map(([inode]) => row('0016', '0A', inode)).join('')}`,
    );
    for (const [inode, pid] of held) {
      mkdirSync(join(directory, `proc/${pid}/fd`), { recursive: true });
      symlinkSync(`socket:[${inode}]`, join(directory, `proc/${pid}/fd/${inode}`));
    }
  };

  it.each([
    ['it listens alone', [[55, 77]], 'yes'],
    [
      'it listens with both of its sockets',
      [
        [55, 77],
        [56, 77],
      ],
      'yes',
    ],
    ['another one has the port', [[55, 78]], 'no'],
    [
      'another one has the port of one kind of address',
      [
        [55, 77],
        [56, 78],
      ],
      'no',
    ],
    ['nobody listens', [], 'no'],
  ] as [string, [number, number][], string][])(
    'says that the SSH server listens only if it is ours: %s',
    (_what, held, is) => {
      process(77, 'sshd');
      listeners(...held);
      put('state/sshd.pid', '77\n');
      expect(shell('if wait_for_sshd $STATE/sshd.pid; then echo yes; else echo no; fi')).toBe(`${is}\n`);
    },
  );

  it('does not wait for an SSH server that has ended', () => {
    put('state/sshd.pid', '77\n');
    const looks = `looks=0; pause() { looks=$((looks + 1)); }; wait_for_sshd $STATE/sshd.pid || echo $looks`;
    expect(shell(looks)).toBe('0\n');
  });

  it('ends whoever else listens on port 22, and nobody who does not', () => {
    listeners([55, 78]);
    process(79, 'sshd');
    const script = `stop_service() { echo "stop $*"; }
      kill() { echo "kill $*"; : >$PROC/net/tcp; }
      free_port && echo free`;
    expect(shell(script.replaceAll('$PROC', join(directory, 'proc')))).toMatch(
      /^stop .*\nlog: process 78 listens on port 22: ended\nkill 78\nfree\n$/,
    );
  });

  it('tells why a host key cannot be read', () => {
    put('bin/ssh-keygen', '#!/bin/sh\necho "Load key: unsupported key type" >&2\nexit 255\n');
    chmodSync(join(directory, 'bin/ssh-keygen'), 0o755);
    mkdirSync(join(directory, 'etc/ssh'));
    expect(shell('PATH=$1/bin:$PATH sshd=openssh VMBATCH_HOST_KEY=QQ==\n(install_host_key) || :')).toBe(
      'log: reading the public host key failed: Load key: unsupported key type (the kind of its keys is ssh_keys of the image in the node file)\n',
    );
  });
});
