import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

// The built program, as the shims start it. `npm test` builds it first.
const vmbatch = new URL('../../../dist/vmbatch', import.meta.url).pathname;

let directory: string;
let config: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-commands-'));
  config = join(directory, 'node.yaml');
  mkdirSync(join(directory, 'state'));
  writeNodeFile('');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function writeNodeFile(more: string): void {
  writeFileSync(
    config,
    `queues: [vmalice]
state: ${directory}/state
log: ${directory}/log
images: { demo: { path: ${directory}/absent.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: ${directory}/share }
${more}`,
  );
  const past = new Date(Date.now() - 60_000);
  utimesSync(config, past, past);
}

function hook(name: 'prologue' | 'epilogue', queue: string, jobId = '7.vm', further: readonly string[] = []) {
  const script = join(directory, '7.SC');
  writeFileSync(script, '#!/bin/sh\n');
  const words =
    name === 'prologue'
      ? [jobId, 'root', 'root', 'job', 'nodes=1', queue, '', script, ...further]
      : [jobId, 'root', 'root', 'job', '1', 'nodes=1', 'cput=0', queue, '', '0', script, ...further];
  const { status, stdout, stderr } = spawnSync(
    vmbatch,
    [name, '--config', config, '--state', join(directory, 'state'), ...words],
    { encoding: 'utf8', cwd: directory, timeout: 20_000 },
  );
  return { status, stdout, stderr };
}

describe.runIf(process.getuid?.() === 0)('vmbatch prologue', () => {
  it('puts a job back into the queue when the image of the node is absent, and says so', () => {
    const { status, stderr } = hook('prologue', 'vmalice');
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /node fault: image demo: .*absent\.qcow2 cannot be read \(ENOENT\) \[image-absent\]/,
    );
  });

  it('does not fail with success when its log cannot be written', () => {
    mkdirSync(join(directory, 'log/vmbatch.log'), { recursive: true });
    expect(hook('prologue', 'vmalice')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/image-absent/),
    });
  });

  it('lets jobs of other queues pass though the node file is broken', () => {
    expect(hook('prologue', 'plain')).toEqual({ status: 0, stdout: '', stderr: '' });
    writeNodeFile('imagse: {}');
    expect(hook('prologue', 'plain')).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(hook('prologue', 'vmalice')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/node\.yaml:6:1: .*imagse/),
    });
  });

  it.each(['33.torque_server', '33.torque.example.org:15001', '33[2].torque_server', '33'])(
    'takes the id %s',
    (id) => {
      expect(hook('prologue', 'vmalice', id)).toMatchObject({
        status: 2,
        stderr: expect.stringContaining('[image-absent]'),
      });
      expect(hook('epilogue', 'vmalice', id)).toMatchObject({ status: 0, stderr: '' });
    },
  );

  it.each(['-33.vm', '33.vm 34.vm', '33.vm/../x', '33...', '33.\x1bvm', 'no id'])(
    'refuses the id %j, and only in a queue that it serves',
    (id) => {
      expect(hook('prologue', 'vmalice', id)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/was given .* as job id: allowed: NUMBER\.SERVER/),
      });
      expect(hook('prologue', 'plain', id)).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(hook('epilogue', 'plain', id)).toEqual({ status: 0, stdout: '', stderr: '' });
      writeNodeFile('imagse: {}');
      expect(hook('prologue', 'plain', id)).toEqual({ status: 0, stdout: '', stderr: '' });
    },
  );

  it('lets jobs of other queues pass however many arguments the mom gives', () => {
    expect(hook('prologue', 'plain', '7.vm', ['more'])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(hook('epilogue', 'plain', '7.vm', ['more'])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(hook('prologue', 'vmalice', '7.vm', ['more']).stderr).toContain('was given 9 arguments');
  });

  it('refuses to work with shims that were installed for another state directory', () => {
    rmSync(config);
    writeNodeFile('');
    const text = `queues: [vmalice]\nstate: ${directory}/elsewhere\nimages: { demo: { path: /x } }\nshare: { type: nfs, server: "h:/s", path: ${directory}/share }\n`;
    writeFileSync(config, text);
    expect(hook('prologue', 'vmalice')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/hooks-outdated/),
    });
  });
});

describe.runIf(process.getuid?.() === 0)('vmbatch epilogue', () => {
  it('says nothing where there is nothing to do, for whatever queue', () => {
    expect(hook('epilogue', 'vmalice')).toEqual({ status: 0, stdout: '', stderr: '' });
    writeNodeFile('imagse: {}');
    expect(hook('epilogue', 'plain')).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  it('removes what is left of a job whose queue is served no longer', () => {
    mkdirSync(join(directory, 'state/jobs/7.vm'), { recursive: true });
    writeFileSync(join(directory, 'state/jobs/7.vm/ended'), '');
    expect(hook('epilogue', 'gone')).toMatchObject({ status: 0 });
    expect(() => mkdirSync(join(directory, 'state/jobs/7.vm'))).not.toThrow();
  });
});

describe('vmbatch', () => {
  it.each(['submit', 'scan', 'cancel', 'info', 'prologue', 'run', 'epilogue', 'hooks', 'image'])(
    'tells how to use %s',
    (command) => {
      const { status, stdout } = spawnSync(vmbatch, [command, '--help'], {
        encoding: 'utf8',
        timeout: 20_000,
      });
      expect({ status, usage: /^usage: vmbatch /i.test(stdout) }).toEqual({ status: 0, usage: true });
    },
  );
});
