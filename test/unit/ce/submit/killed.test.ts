// A submit that is ended at any moment and run again makes exactly one batch job: the built program, real
// signals, and a qsub and a qstat that keep a spool and can be slow.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readIfThere } from '../../../support/files.ts';

const project = new URL('../../../..', import.meta.url).pathname;
let built: string;
let root: string;
let running: ChildProcess[] = [];

beforeAll(() => {
  built = mkdtempSync(join(tmpdir(), 'vmbatch-built-'));
  execFileSync(process.execPath, [join(project, 'scripts/build.mjs'), join(built, 'dist')]);
}, 60_000);
afterAll(() => rmSync(built, { recursive: true, force: true }));

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-killed-'));
  for (const folder of ['session', 'bin', 'spool']) mkdirSync(join(root, folder));
  writeFileSync(
    join(root, 'arex.cfg'),
    `[lrms]\nlrms=vmbatch main\npbs_bin_path=${root}/bin\n[custom:vmbatch]\nsubmit_patience=30s\n`,
  );
  writeFileSync(join(root, 'bin/qsub'), QSUB, { mode: 0o755 });
  writeFileSync(join(root, 'bin/qstat'), QSTAT, { mode: 0o755 });
  writeGrami();
});
afterEach(() => {
  // Only if the test failed.
  for (const child of running) child.kill('SIGKILL');
  running = [];
  rmSync(root, { recursive: true, force: true });
});

/** Stays for a while at the moment that `spool/stay-at` names, once, and says that it is there. A job exists
 * when it has its name in the spool. */
const QSUB = `#!/bin/sh
spool=\${0%/bin/*}/spool
moment() {
    if [ -e "$spool/stay-at" ] && [ "$(cat "$spool/stay-at")" = "$1" ]; then
        rm "$spool/stay-at"
        : > "$spool/reached"
        sleep "$(cat "$spool/stay-for" 2> /dev/null || echo 0.3)"
    fi
}
moment started
cat > "$spool/new.$$"
printf '\\n%s\\n' "$*" >> "$spool/new.$$"
moment read
mv "$spool/new.$$" "$spool/job.$$"
moment submitted
echo $$.ce
moment answered
`;
const QSTAT = `#!/bin/sh
spool=\${0%/bin/*}/spool
printf '<Data>'
for job in "$spool"/job.*; do
    [ -e "$job" ] || continue
    printf '<Job><Job_Id>%s.ce</Job_Id><job_state>Q</job_state>' "\${job##*.}"
    printf '<Variable_List>PBS_O_HOST=ce,%s</Variable_List></Job>' "$(sed -n '$s/^-v //p' "$job")"
done
printf '</Data>\\n'
`;

const gramiFile = () => join(root, 'job.ID.grami');

/** As A-REX writes it, again for each attempt. */
function writeGrami(): void {
  writeFileSync(
    gramiFile(),
    `joboption_directory='${root}/session'
joboption_controldir='${root}'
joboption_gridid='ID'
joboption_arg_0='./x'
joboption_arg_1='${'long '.repeat(20_000)}'
`,
  );
}

function start(): {
  child: ChildProcess;
  ended: Promise<{ code: number | null; signal: string | null; said: string }>;
} {
  const child = spawn(
    join(built, 'dist/vmbatch'),
    ['submit', '--config', join(root, 'arex.cfg'), gramiFile()],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  running.push(child);
  let said = '';
  child.stderr?.on('data', (chunk) => {
    said += chunk;
  });
  // Not its output's end: a qsub that outlives it may hold that.
  const ended = new Promise<{ code: number | null; signal: string | null; said: string }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal, said }));
  });
  return { child, ended };
}

async function reached(): Promise<void> {
  for (let turn = 0; !existsSync(join(root, 'spool/reached')); turn++) {
    expect(turn, 'qsub does not come to that moment').toBeLessThan(1000);
    await setTimeout(10);
  }
}

const jobId = () => /^joboption_jobid=(.*)$/m.exec(readFileSync(gramiFile(), 'utf8'))?.[1];

/** What A-REX does when it starts again: it asks again, with a new grami file, if the old one has no job
 * id. */
async function submitAgain(): Promise<void> {
  if (jobId() === undefined) {
    writeGrami();
    const { code, said } = await start().ended;
    expect(code, said).toBe(0);
  }
}

async function expectOneJob(): Promise<void> {
  // A qsub that was still to come would have come by now.
  await setTimeout(100);
  const jobs = readdirSync(join(root, 'spool')).filter((name) => name.startsWith('job.'));
  expect(jobs).toEqual([`job.${jobId()?.replace('.ce', '')}`]);
  const script = readFileSync(join(root, 'spool', jobs[0] ?? ''), 'utf8');
  expect(script).toMatch(/^#!/);
  expect(script).toContain('long '.repeat(20_000));
  expect(script).toMatch(/exit "?\$\w+"?\n\n-v VMBATCH_SUBMISSION=[0-9a-f]{32}\n$/);
  expect(readdirSync(join(root, 'session'))).toEqual([]);
}

describe.each(['SIGKILL', 'SIGTERM'] as const)('a submit that gets %s', (signal) => {
  it.each(['started', 'read', 'submitted', 'answered'])('when its qsub has %s', async (moment) => {
    writeFileSync(join(root, 'spool/stay-at'), moment);
    const { child, ended } = start();
    await reached();
    child.kill(signal);
    const end = await ended;
    expect(end.signal).toBe(signal);
    // One that can be held is, until the job id is where A-REX looks for it.
    expect(jobId() === undefined).toBe(signal === 'SIGKILL');
    await submitAgain();
    await expectOneJob();
  });
});

it('a submit that gets SIGKILL after any part of its time', async () => {
  const before = performance.now();
  await start().ended;
  const whole = performance.now() - before;
  for (const part of [0.15, 0.4, 0.6, 0.75, 0.9]) {
    rmSync(join(root, 'spool'), { recursive: true });
    mkdirSync(join(root, 'spool'));
    writeGrami();
    const { child, ended } = start();
    await setTimeout(part * whole);
    child.kill('SIGKILL');
    await ended;
    await submitAgain();
    await expectOneJob();
  }
});

it('a submit that got SIGKILL while it made its mark', async () => {
  writeFileSync(join(root, 'session', `.vmbatch-submission.${'0a'.repeat(16)}`), '0a0a');
  await submitAgain();
  await expectOneJob();
});

it('a submit that nobody has ended yet when the next one comes', async () => {
  writeFileSync(join(root, 'spool/stay-at'), 'read');
  writeFileSync(join(root, 'spool/stay-for'), '3');
  const first = start();
  await reached();
  writeGrami();
  const second = await start().ended;
  expect(second.code, second.said).toBe(0);
  expect((await first.ended).signal).toBe('SIGKILL');
  await expectOneJob();
});

it('submits that are started at the same time', async () => {
  for (const count of [2, 2, 3]) {
    rmSync(join(root, 'spool'), { recursive: true });
    mkdirSync(join(root, 'spool'));
    writeGrami();
    writeFileSync(join(root, 'spool/stay-at'), 'read');
    const ends = await Promise.all(Array.from({ length: count }, () => start().ended));
    // The others are ended, or see that they are not the one that goes on.
    expect(ends.map(({ code }) => code).filter((code) => code !== 4 && code !== null)).toEqual([0]);
    await expectOneJob();
    expect(readFileSync(gramiFile(), 'utf8').match(/^joboption_jobid=/gm)).toHaveLength(1);
    expect(existsSync(join(root, 'session.diag'))).toBe(false);
  }
});

it('a submit whose qsub has started after the next submit', async () => {
  writeFileSync(join(root, 'spool/stay-at'), 'read');
  writeFileSync(join(root, 'spool/stay-for'), '1');
  const token = '0123456789abcdef0123456789abcdef';
  writeFileSync(join(root, 'session/.vmbatch-submission'), `${token}\n`);
  const second = start();
  second.child.kill('SIGSTOP');
  // Longer than a tick of the clock that start times are told in.
  await setTimeout(30);
  const qsub = spawn(join(root, 'bin/qsub'), ['-v', `VMBATCH_SUBMISSION=${token}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  running.push(qsub);
  const through = once(qsub, 'exit');
  qsub.stdin.end(`#!/bin/sh\n${'long '.repeat(20_000)}\nexit $vmbatch_code\n`);
  await reached();
  second.child.kill('SIGCONT');
  const { code, said } = await second.ended;
  await through;
  expect(code, said).toBe(0);
  await expectOneJob();
});

it.runIf(process.getuid?.() === 0)(
  'a submit in a session directory that its user cannot search says so',
  () => {
    chmodSync(root, 0o755);
    chmodSync(built, 0o755);
    chmodSync(join(root, 'session'), 0o700);
    const { stderr } = spawnSync(
      join(built, 'dist/vmbatch'),
      ['submit', '--config', join(root, 'arex.cfg'), gramiFile()],
      { encoding: 'utf8', uid: 65534, gid: 65534 },
    );
    expect(stderr).toContain(
      `the session directory ${root}/session cannot be searched by the job's user, uid 65534 (EACCES)`,
    );
  },
);

it('a submit whose stage 0 is running when it gets SIGTERM ends with all that belongs to it', async () => {
  mkdirSync(join(root, 'rte/enabled'), { recursive: true });
  writeFileSync(
    join(root, 'rte/enabled/SLOW'),
    `: > ${root}/spool/reached\nsleep 60 &\necho $! > ${root}/pid\nwait\n`,
  );
  writeFileSync(gramiFile(), `${readFileSync(gramiFile(), 'utf8')}joboption_runtime_0='SLOW'\n`);
  const { child, ended } = start();
  await reached();
  await expect
    .poll(() => existsSync(join(root, 'pid')) && readFileSync(join(root, 'pid'), 'utf8'))
    .toMatch(/\n/);
  child.kill('SIGTERM');
  expect((await ended).signal).toBe('SIGTERM');
  const pid = readFileSync(join(root, 'pid'), 'utf8').trim();
  await expect.poll(() => readIfThere(`/proc/${pid}/status`) || 'State: X').toMatch(/State:\s+[ZX]/);
  expect(jobId()).toBeUndefined();
});
