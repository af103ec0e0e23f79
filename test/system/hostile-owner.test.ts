// A job whose owner is hostile: whatever its name, arguments, environment, file names and `#VMBATCH` lines
// hold, it is text for its own shell in its own guest, and nothing else ever sees it.

import type { ChildProcess } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGridJob, startScan, stopScan } from '../site/grid-job.ts';
import { QUEUE, type Site } from '../site/site.ts';
import { writeHook } from '../standin/start.ts';
import { readIfThere } from '../support/files.ts';
import { useFakeSite } from './fake-site.ts';

const END_MS = 40_000;
const MARK = 'h0st1le';

const theSite = useFakeSite('hostile');
let site: Site;
let scan: ChildProcess;
let traces: string;
let trap: string;

beforeAll(() => {
  site = theSite();
  scan = startScan(site);
  trap = join(site.directory, 'trap');
  traces = join(site.directory, 'traces');
  mkdirSync(traces);
  // Every program that the hooks start, with its arguments. -D: the hook ends when it does, not when its
  // guest does.
  for (const name of ['prologue', 'epilogue']) {
    const hook = join(site.standin.momPrivDir, name);
    const real = join(site.directory, `${name}.real`);
    renameSync(hook, real);
    writeHook(
      hook,
      `#!/bin/sh\nexec strace -D -f -qq -s 100000 -e trace=execve,clone,clone3,fork,vfork -e signal=none -o ${traces}/${name}.$$ ${real} "$@"\n`,
    );
  }
});
afterAll(() => stopScan(scan));

/** What would leave a file if anybody's shell read it as a program. */
const evil = () => [
  `$(touch ${trap}.1)${MARK}`,
  `\`touch ${trap}.2\`${MARK}`,
  `'; touch ${trap}.3; '${MARK}`,
  `"; touch ${trap}.4; "${MARK}`,
  `${MARK}\ntouch ${trap}.5\n`,
  `${MARK}</name><name>x`,
  `${MARK}&amp;%s%n\${IFS}`,
  `-rf ${MARK}`,
];
/** The `execve` lines of a hook and of all that it started, but not of what runs in the guest.
 * @param trace by `strace -f` */
function programsOf(trace: string): string[] {
  const lines = trace.split('\n').map((line) => ({ pid: line.split(' ')[0] ?? '', line }));
  const hooks = new Set([lines[0]?.pid ?? '']);
  const guests = new Set<string>();
  return lines.flatMap(({ pid, line }) => {
    if (!hooks.has(pid) || guests.has(pid)) return [];
    const child = /(?:clone3?|v?fork)\b.* = (\d+)$/.exec(line)?.[1];
    if (child !== undefined) hooks.add(child);
    if (line.includes('execve(') && line.includes('["fake-guest"')) guests.add(pid);
    return line.includes('execve(') && !guests.has(pid) ? [line] : [];
  });
}

/** The job's key is in two files that others cannot read, and nowhere else. */
function expectKeyHidden(jobId: string): void {
  const file = join(site.state, 'sessions', jobId, 'session.json');
  const key = (JSON.parse(readFileSync(file, 'utf8')) as { privateKey: string }).privateKey;
  expect(statSync(file)).toMatchObject({ mode: 0o100400, uid: site.account.uid });
  expect(statSync(join(file, '..'))).toMatchObject({ mode: 0o040711, uid: 0 });
  const iso = join(site.state, 'jobs', jobId, 'context.iso');
  expect(statSync(iso)).toMatchObject({ mode: 0o100600, uid: 0 });
  // One line out of its middle, as text and as base64 has it at any of its three places.
  const line = key.split('\n')[3] ?? '';
  expect(line.length).toBeGreaterThan(40);
  const forms = [0, 1, 2].map((shift) =>
    Buffer.from(' '.repeat(shift) + line)
      .toString('base64')
      .slice(4, 44),
  );
  const holds = (text: string) => text.includes(line) || forms.some((form) => text.includes(form));
  expect(holds(readFileSync(file, 'utf8'))).toBe(true);
  const others = [
    ...['record.json', 'domain.xml', 'console.log'].map((name) => join(site.state, 'jobs', jobId, name)),
    ...['vmbatch.log', 'vmbatch.json'].map((name) => join(site.log, name)),
  ];
  for (const path of others) expect(holds(readFileSync(path, 'latin1')), path).toBe(false);
  // Of the processes of the site: others may not let themselves be looked at.
  const processes = readdirSync('/proc').filter(
    (entry) => /^\d+$/.test(entry) && readIfThere(`/proc/${entry}/cmdline`).includes(site.directory),
  );
  expect(processes.length).toBeGreaterThan(3);
  for (const pid of processes)
    for (const name of ['cmdline', 'environ'])
      expect(holds(readIfThere(`/proc/${pid}/${name}`)), `${name} of ${pid}`).toBe(false);
}

const traps = () => readdirSync(site.directory).filter((name) => name.startsWith('trap'));

describe('a hostile owner', () => {
  it('gets arguments and environment as they are, in the guest, and nobody else takes them for a program', async () => {
    const session = createGridJob(site, {
      name: `${MARK}; touch ${trap}.0 #`,
      arguments: ['/bin/sh', 'show.sh', ...evil()],
      environment: Object.fromEntries(evil().map((text, index) => [`EVIL_${index}`, text])),
      inputs: {
        'show.sh':
          'for word; do printf "%s\\0" "$word"; done >args\ni=0; while [ $i -lt 8 ]; do eval "printf \'%s\\0\' \\"\\$EVIL_$i\\""; i=$((i+1)); done >environment\ntouch ready; while [ ! -e go ]; do sleep 0.1; done\n',
        [`-rf $(touch x) ${MARK}`]: 'a file name',
        [`${MARK}'; touch x; '`]: 'another',
      },
      outputs: ['args', 'environment'],
    });
    const { localId, exitCode, stderr } = await session.submit();
    expect(exitCode, stderr).toBe(0);
    for (let looks = 0; looks < 400 && !existsSync(join(session.session, 'ready')); looks++) await sleep(50);
    expect(readFileSync(join(session.session, 'args'), 'utf8')).toBe(
      evil()
        .map((text) => `${text}\0`)
        .join(''),
    );
    expect(readFileSync(join(session.session, 'environment'), 'utf8')).toBe(
      evil()
        .map((text) => `${text}\0`)
        .join(''),
    );
    // While the guest runs: what was made for it.
    const directory = join(site.state, 'jobs', localId ?? '');
    for (const name of ['record.json', 'domain.xml', 'context.iso'])
      expect(readFileSync(join(directory, name), 'latin1'), name).not.toContain(MARK);
    expectKeyHidden(localId ?? '');
    writeFileSync(join(session.session, 'go'), '');
    expect(await session.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
    expect(traps()).toEqual([]);
    expect(readFileSync(join(site.log, 'vmbatch.log'), 'utf8')).not.toContain(MARK);
  });

  it('has nothing of its text on the command line of any program that a hook starts', () => {
    const started = readdirSync(traces).flatMap((name) =>
      programsOf(readFileSync(join(traces, name), 'utf8')),
    );
    expect(started.length).toBeGreaterThan(6);
    // TORQUE itself calls the hooks with the job's name; they hand it to nobody.
    const children = started.filter(
      (line) => !/"(prologue|epilogue)(\.real)?"|\/(prologue|epilogue)\.real/.test(line),
    );
    expect(children.some((line) => line.includes('qemu-img'))).toBe(true);
    expect(children.some((line) => line.includes('virsh'))).toBe(true);
    expect(children.filter((line) => line.includes(MARK))).toEqual([]);
    // Nor a key or the nonce of its ready file: whoever lists processes would see them.
    expect(started.filter((line) => /PRIVATE KEY|ssh-ed25519/.test(line))).toEqual([]);
  });

  it.each([
    ['a path', 'image=../../etc/passwd'],
    ['a program for an image', 'image=$(touch TRAP)'],
    ['a program after a size', 'memory=1GiB;touch TRAP'],
    ['a size without measure', 'memory=99999999999999999999GiB'],
    ['a negative number', 'vcpus=-1'],
    ['a program for a size', 'scratch=`touch TRAP`'],
    ['a word that JavaScript knows', '__proto__=1'],
    ['a name without end', `image=${'x'.repeat(100_000)}`],
    ['XML for a name', 'image=<name>'],
  ])('is refused for good that asks with #VMBATCH for %s', async (_what, line) => {
    const script = join(site.account.home, 'job.sh');
    writeFileSync(script, `#!/bin/sh\n#VMBATCH ${line.replaceAll('TRAP', `${trap}.6`)}\ntrue\n`);
    chownSync(script, site.account.uid, site.account.gid);
    const qsub = join(site.standin.binDir, 'qsub');
    const { stdout, exitCode } = await site.asUser(qsub, ['-q', QUEUE, '-N', MARK, script]);
    expect(exitCode).toBe(0);
    const id = stdout.trim();
    let status = '';
    for (let looks = 0; looks < 200 && !status.includes('job_state = C'); looks++) {
      await sleep(50);
      status = (await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id])).stdout;
    }
    expect(status).toMatch(/exit_status = -2/);
    expect(traps()).toEqual([]);
    expect(existsSync(join(site.state, 'jobs', id))).toBe(false);
  });
});
