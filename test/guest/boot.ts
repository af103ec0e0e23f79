// Booting the demo guest with QEMU alone, as the tests of the image need it: no libvirt, no prologue.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Client } from 'ssh2';
import { type ContextSite, contextFiles } from '../../src/context/disk-files.ts';
import type { GuestContext } from '../../src/context/guest-context.ts';
import { buildIso } from '../../src/context/iso9660.ts';
import { generateKeyPair, type KeyPair } from '../../src/context/keys.ts';
import { type ReadyReport, waitForReadyFile } from '../../src/guest/ready/ready.ts';
import { openShareGuard } from '../../src/guest/share/guard.ts';
import type { BuildResult } from '../../src/image/demo/build.ts';
import { run } from '../../src/util/processes/run.ts';

export interface BootRequest {
  image: BuildResult;
  /** For the overlay, the ISO and the console log. */
  dir: string;
  context: Omit<GuestContext, 'hostKey' | 'authorizedKey' | 'time'>;
  /** Host path of `context.readyFile`. */
  readyFile: string;
  contextDisk: 'cdrom' | 'virtio';
  /** Further disks, with the serial numbers by which the guest knows them. */
  disks?: { file: string; serial: string }[];
  /** The site's hooks. */
  scripts?: ContextSite['scripts'];
  /** The guest's address, to which the SSH port is forwarded. */
  address: string;
  vcpus: number;
}

export interface BootedGuest {
  ready: Promise<ReadyReport>;
  /** Seconds from the start of QEMU until the ready file was seen; known once `ready` is. */
  seconds: () => number;
  sshPort: number;
  hostKey: KeyPair;
  userKey: KeyPair;
  console: () => string;
  destroy(): Promise<void>;
}

/** Starts a guest; what it says of itself comes through `ready`. */
export async function bootGuest(request: BootRequest): Promise<BootedGuest> {
  const { dir, image, context } = request;
  mkdirSync(dir, { recursive: true });
  const hostKey = generateKeyPair();
  const userKey = generateKeyPair();
  const files = contextFiles(
    {
      ...context,
      hostKey: hostKey.privateKey,
      authorizedKey: `${userKey.publicKey} job`,
      time: Math.floor(Date.now() / 1000),
    },
    {
      kind: 'prepared',
      cvmfs: { proxy: undefined, server: undefined, tag: undefined, organisation: undefined },
      siteParts: [],
      scripts: request.scripts ?? {},
      service: { guest: Buffer.from(''), udhcpcScript: Buffer.from('') },
    },
  );
  const iso = join(dir, 'context.iso');
  writeFileSync(
    iso,
    buildIso(files, {
      volumeLabel: 'cidata',
      modified: new Date(Math.floor(Date.now() / 1000) * 1000),
    }),
  );
  const overlay = join(dir, 'overlay.qcow2');
  const template = join(image.directory, 'template.qcow2');
  const created = await run('qemu-img', [
    ...['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', template, overlay],
  ]);
  if (created.exitCode !== 0) throw new Error(created.stderr);

  const sshPort = await freePort();
  const consoleLog = join(dir, 'console.log');
  const disk =
    request.contextDisk === 'cdrom'
      ? ['-drive', `file=${iso},format=raw,if=ide,index=2,media=cdrom`]
      : [
          ...['-drive', `file=${iso},format=raw,if=none,id=context,readonly=on`],
          ...['-device', 'virtio-blk-pci,drive=context,addr=0xa'],
        ];
  const started = performance.now();
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-machine', 'pc', '-cpu', 'max', '-m', '256', '-smp', String(request.vcpus)],
      ...['-nodefaults', '-display', 'none', '-no-reboot', '-serial', `file:${consoleLog}`],
      ...['-kernel', join(image.directory, 'vmlinuz'), '-initrd', join(image.directory, 'initrd.img')],
      ...['-append', image.manifest.kernelParameters],
      // In this order on the bus: the image looks for its root on the first disk.
      ...['-drive', `file=${overlay},if=none,id=root,cache=unsafe,format=qcow2`],
      ...['-device', 'virtio-blk-pci,drive=root,addr=0x4,serial=vmbatch-root'],
      ...disk,
      ...(request.disks ?? []).flatMap(({ file, serial }, index) => [
        ...['-drive', `file=${file},format=raw,if=none,id=more${index}`],
        ...['-device', `virtio-blk-pci,drive=more${index},addr=0x${index + 5},serial=${serial}`],
      ]),
      ...['-netdev', `user,id=net0,hostfwd=tcp:127.0.0.1:${sshPort}-${request.address}:22`],
      ...['-device', 'virtio-net-pci,netdev=net0,romfile='],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const readConsole = () => (existsSync(consoleLog) ? readFileSync(consoleLog, 'utf8') : '');
  let seconds = 0;
  const guard = openShareGuard('the share', 10_000);
  const ready = waitForReadyFile(
    {
      path: request.readyFile,
      jobId: context.jobId,
      nonce: context.nonce,
      ownerUid: context.user.uid,
      hostKey: hostKey.publicKey,
    },
    guard,
    {
      deadlineMs: 60_000,
      intervalMs: 20,
      signal: new AbortController().signal,
      givenUp: () => (ended(qemu) ? `QEMU ended: ${readConsole().slice(-500)}` : undefined),
    },
  );
  ready.then(
    () => {
      guard.close();
      seconds = (performance.now() - started) / 1000;
    },
    () => guard.close(),
  );
  return {
    ready,
    seconds: () => seconds,
    sshPort,
    hostKey,
    userKey,
    console: readConsole,
    destroy: () => destroy(qemu),
  };
}

export interface LogIn {
  port: number;
  username: string;
  /** `ssh-ed25519 BASE64` that the guest must show. */
  hostKey: string;
  privateKey?: string;
  password?: string;
}

/** Logs in and runs a command; rejects with ssh2's error if the guest refuses. */
export function runOverSsh(
  login: LogIn,
  command: string,
): Promise<{ stdout: string; stderr: string; exitCode: number | null }> {
  const client = new Client();
  return new Promise<{ stdout: string; stderr: string; exitCode: number | null }>((resolve, reject) => {
    client.once('error', reject);
    client.once('ready', () => {
      client.exec(command, (error, channel) => {
        if (error !== undefined) return reject(error);
        const out: Buffer[] = [];
        const err: Buffer[] = [];
        let exitCode: number | null = null;
        channel.on('data', (chunk: Buffer) => out.push(chunk));
        channel.stderr.on('data', (chunk: Buffer) => err.push(chunk));
        channel.on('exit', (code: number | null) => {
          exitCode = code;
        });
        channel.on('close', () =>
          resolve({
            stdout: Buffer.concat(out).toString('utf8'),
            stderr: Buffer.concat(err).toString('utf8'),
            exitCode,
          }),
        );
      });
    });
    client.connect({
      host: '127.0.0.1',
      port: login.port,
      username: login.username,
      readyTimeout: 15_000,
      hostVerifier: (key: Buffer) => `ssh-ed25519 ${key.toString('base64')}` === login.hostKey,
      ...(login.privateKey === undefined ? {} : { privateKey: login.privateKey }),
      ...(login.password === undefined ? {} : { password: login.password }),
    });
  }).finally(() => client.end());
}

function ended(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function destroy(qemu: ChildProcess): Promise<void> {
  if (ended(qemu)) return;
  const gone = new Promise<void>((resolve) => qemu.once('exit', () => resolve()));
  qemu.kill('SIGKILL');
  await gone;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    });
  });
}
