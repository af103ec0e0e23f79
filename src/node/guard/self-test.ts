// A guest that is started for nothing but to see whether the node can.
import { chownSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { readMomConfig } from '../../batch/torque/mom/mom-config.ts';
import { thisProcess } from '../../hypervisor/guest-process.ts';
import type { Hypervisor } from '../../hypervisor/port.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import { type Account, findAccount } from '../../util/accounts/account.ts';
import { VmbatchError } from '../../util/errors.ts';
import type { Log } from '../../util/log.ts';
import type { Run } from '../../util/processes/run.ts';
import { mustStartJobs } from '../hooks/job-starter.ts';
import { endGuest } from '../life/end.ts';
import { readLimits } from '../life/job-surroundings.ts';
import { runJob } from '../life/run.ts';
import { startGuest } from '../life/start.ts';
import { momOfState } from '../mom.ts';
import { lookUpFacts } from '../plan/facts.ts';
import { prepareState } from '../record.ts';

export interface SelfTestOptions {
  config: NodeConfig;
  /** Undefined: the node's default. */
  image?: string | undefined;
  hypervisor: Hypervisor;
  run: Run;
  log: Log;
}

/** As a prologue's without `$prologalarm`. */
const LIMIT_MS = 300_000;
const MARK = 'vmbatch-self-test';

/** Starts a guest, runs a script in it, and removes it.
 * @returns seconds until the script had run
 * @throws VmbatchError what a job would have failed with. Nothing is left then. */
export async function selfTest({ config, image, hypervisor, run, log }: SelfTestOptions): Promise<number> {
  const begun = performance.now();
  // No job of TORQUE's has it, nor another node's self-test.
  const jobId = `0.self-test-${hostname().replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;
  const account = await findAccount(config.guard.user);
  prepareState(config.state);
  const script = join(config.state, `self-test-${process.pid}.sh`);
  rmSync(script, { force: true });
  const directive = image === undefined ? '' : `#VMBATCH image=${image}\n`;
  writeFileSync(script, `#!/bin/sh\n${directive}echo ${MARK}\n`, { mode: 0o600, flag: 'wx' });
  chownSync(script, account.uid, account.gid);
  const { name: user, group } = account;
  const queue = config.queues[0] ?? '';
  const hook = { jobId, user, group, jobName: 'self-test', queue, resources: 'nodes=1', script };
  let exitStatus = 1;
  try {
    await startGuest({
      config,
      hook,
      ppn: 1,
      limitMs: LIMIT_MS,
      facts: () => lookUpFacts(config, jobId, run),
      hypervisor,
      run,
      log,
      // A node that would run its jobs outside their guests is not to come back for a guest that starts.
      checkStarter: (of) =>
        mustStartJobs(of, { mom: readMomConfig(momOfState(config.state).config), state: config.state, run }),
      self: thisProcess(),
      signal: new AbortController().signal,
    });
    exitStatus = await runScript(config, jobId, script, account);
    return Math.round((performance.now() - begun) / 10) / 100;
  } finally {
    await endGuest({
      state: config.state,
      hook: { ...hook, exitStatus },
      openHypervisor: () => hypervisor,
      log,
      isOwn: true,
    });
    rmSync(script, { force: true });
  }
}

async function runScript(
  config: NodeConfig,
  jobId: string,
  script: string,
  { name, home, shell }: Account,
): Promise<number> {
  let said = '';
  const sink = () =>
    new Writable({
      write(chunk, _encoding, done) {
        if (said.length < 4096) said += String(chunk);
        done();
      },
    });
  const exitCode = await runJob({
    state: config.state,
    jobId,
    shell: '/bin/sh',
    line: script,
    environment: { PBS_JOBID: jobId, HOME: home, LOGNAME: name, USER: name, SHELL: shell },
    stdout: sink(),
    stderr: sink(),
    onSignal: () => undefined,
    umask: 0o77,
    limits: readLimits(process.pid),
  });
  if (exitCode === 0 && said.includes(MARK)) return exitCode;
  throw new VmbatchError({
    fault: 'node',
    code: 'self-test-failed',
    message: `the script of the self-test ended with ${exitCode}: ${said.trim().slice(0, 500)}`,
    jobId,
  });
}
