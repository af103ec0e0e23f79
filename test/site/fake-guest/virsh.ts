// The fake virsh: answers like libvirt's for what src/hypervisor/virsh.ts asks, with processes in namespaces
// for domains. It knows only the guests of one directory. A domain that brings a kernel is a real one: it is
// left to the real virsh, if the site has one. fake-virsh.cjs DIRECTORY REAL-VIRSH|- [virsh's own arguments]
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readIso } from '../../unit/context/iso-reader.ts';

const [directory = '', realVirsh = '-', ...argv] = process.argv.slice(2);

interface Domain {
  name: string;
  kernel: boolean;
  vcpus: string;
  memoryKiB: string;
  contextIso: string;
  consoleLog: string;
  port: string;
}

function readDomain(xml: string): Domain {
  const find = (pattern: RegExp): string => {
    const found = pattern.exec(xml)?.[1];
    if (found === undefined) return fail(`error: XML error: nothing in the domain matches ${pattern.source}`);
    return found
      .replace(/&(lt|gt|quot|apos|#39|#34);/g, (entity) => ENTITIES[entity] ?? entity)
      .replaceAll('&amp;', '&');
  };
  return {
    name: find(/<name>([^<]+)<\/name>/),
    kernel: xml.includes('<kernel>'),
    vcpus: find(/<vcpu[^>]*>(\d+)<\/vcpu>/),
    memoryKiB: find(/<memory unit="KiB">(\d+)<\/memory>/),
    contextIso: find(/device="cdrom">[\s\S]*?<source file="([^"]+)"/),
    consoleLog: find(/<serial type="file">\s*<source path="([^"]+)"/),
    port: find(/hostfwd=tcp:127\.0\.0\.1:(\d+)-:22/),
  };
}
const ENTITIES: Readonly<Record<string, string>> = {
  '&lt;': '<',
  '&gt;': '>',
  '&quot;': '"',
  '&apos;': "'",
  '&#39;': "'",
  '&#34;': '"',
};

/** Like virsh: one exit code for all failures. */
function fail(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(1);
}

/** Hands the call to the real virsh; without one, nothing happens. */
function passOn(): number | undefined {
  if (realVirsh === '-') return undefined;
  return spawnSync(realVirsh, argv, { stdio: 'inherit' }).status ?? 1;
}

/** The processes that stand for QEMU: `-name guest=NAME` is on their command line, as libvirt puts it. */
function guests(): { name: string; pid: number }[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      const words = read(`/proc/${entry}/cmdline`).split('\0');
      if (words[0] !== 'fake-guest' || words[3] !== directory) return [];
      return [{ pid: Number(entry), name: words[5]?.replace(/^guest=|,.*$/g, '') ?? '' }];
    });
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // processes end while one looks
  }
}

/** With it end setpriv's child, and with that the PID namespace and all that is in it. */
const QEMU = `setpriv --pdeathsig KILL -- unshare --mount --uts --ipc --pid --fork --mount-proc --kill-child=KILL \\
  --propagation private -- /bin/sh "$4" "$5" "$6" "$3" "$7" "$8" "$9"
exit $?`;

function create(xmlFile: string): number {
  let xml: string;
  try {
    xml = readFileSync(xmlFile, 'utf8');
  } catch {
    return fail(`error: Failed to open file '${xmlFile}': No such file or directory`);
  }
  const domain = readDomain(xml);
  if (domain.kernel) return passOn() ?? fail(`error: Failed to create domain from ${xmlFile}`);
  if (guests().some(({ name }) => name === domain.name)) {
    const why = `error: operation failed: domain '${domain.name}' already exists`;
    return fail(`error: Failed to create domain from ${xmlFile}\n${why}`);
  }
  const context = join(directory, 'guests', domain.name);
  rmSync(context, { recursive: true, force: true });
  mkdirSync(context, { recursive: true, mode: 0o700 });
  for (const { path, data } of readIso(readFileSync(domain.contextIso), 'rock-ridge')) {
    if (path !== 'context.sh' && !path.startsWith('vmbatch/')) continue;
    mkdirSync(join(context, dirname(path)), { recursive: true, mode: 0o700 });
    writeFileSync(join(context, path), data, { mode: 0o600 });
  }
  const console = openSync(domain.consoleLog, 'a');
  const lib = join(directory, 'lib');
  spawn(
    '/bin/sh',
    [
      ...['-c', QEMU, directory, '-name', `guest=${domain.name},debug-threads=on`],
      ...[join(directory, '..'), join(lib, 'guest.sh'), join(lib, 'vmbatch-guest'), context],
      ...[domain.port, domain.vcpus, domain.memoryKiB],
    ],
    {
      argv0: 'fake-guest',
      cwd: '/',
      detached: true,
      // What a guest finds in its environment is not what the mom had in its own.
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
      stdio: ['ignore', console, console],
    },
  ).unref();
  closeSync(console);
  return 0;
}

/** The process of `pid` and all below it. */
function family(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return [pid, ...children.flatMap(family)];
}

async function destroy(name: string): Promise<number> {
  const found = guests().find((guest) => guest.name === name);
  rmSync(join(directory, 'guests', name), { recursive: true, force: true });
  if (found === undefined) return passOn() ?? fail(`error: failed to get domain '${name}'`);
  const all = family(found.pid);
  process.kill(found.pid, 'SIGKILL');
  const lives = (pid: number) =>
    !['', 'Z', 'X'].includes(/^State:\s*(\w)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? '');
  for (let looks = 0; looks < 500 && all.some(lives); looks++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  return all.some(lives) ? fail(`error: Failed to destroy domain '${name}'`) : 0;
}

async function main(): Promise<number> {
  const words = argv.filter((word) => word !== '--quiet');
  if (words[0] === '--connect') words.splice(0, 2);
  const [command, operand] = words;
  if (command === '--version') {
    process.stdout.write('9.0.0\n');
    return 0;
  }
  if (command === 'create' && operand !== undefined) return create(operand);
  if (command === 'destroy' && operand !== undefined) return destroy(operand);
  if (command === 'list' && operand === '--name') {
    for (const { name } of guests()) process.stdout.write(`${name}\n`);
    return passOn() ?? 0;
  }
  return passOn() ?? fail(`error: unknown command: '${command ?? ''}'`);
}

main().then((code) => {
  process.exitCode = code;
});
