// What QEMU must be able to reach is looked at as the account that QEMU has.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { reachRow } from '../../../../src/node/check/reach.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';
import { type Run, run } from '../../../../src/util/processes/run.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-reach-'));
  chmodSync(folder, 0o755);
  for (const name of ['images', 'images/deep', 'kernels', 'state']) mkdirSync(join(folder, name));
  for (const name of ['images/deep/a.qcow2', 'kernels/vmlinuz', 'kernels/initrd'])
    writeFileSync(join(folder, name), Buffer.from('514649fb00000003', 'hex'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function look(uid = 64055) {
  const text = `queues: [vmalice]
state: ${folder}/state
images: { a: { path: ${folder}/images/deep/a.qcow2, boot: { kernel: ${folder}/kernels/vmlinuz, initrd: ${folder}/kernels/initrd } } }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
`;
  const asked: Run = async (file, args, options) => {
    if (file !== 'virsh') return run(file, args, options);
    const label = (type: string) => `<baselabel type='${type}'>+${uid}:+108</baselabel>`;
    const model = `<secmodel><model>dac</model><doi>0</doi>${label('kvm')}${label('qemu')}</secmodel>`;
    return { ...(await run('true', [])), stdout: `<capabilities><host>${model}</host></capabilities>` };
  };
  const found = await reachRow.check({ config: () => parseNodeConfig(text, 'n'), run: asked });
  return Array.isArray(found) ? found : [found];
}

describe.runIf(process.getuid?.() === 0)('check node', () => {
  it('finds all in reach, also where nothing can be listed', async () => {
    for (const name of ['images', 'state']) chmodSync(join(folder, name), 0o711);
    expect(await look()).toMatchObject([{ state: 'ok', found: expect.stringContaining('uid 64055') }]);
  });

  it.each([
    ['images', /^image a: QEMU \(uid 64055\) cannot get through .*\/images$/],
    ['images/deep', /^image a: .*\/images\/deep$/],
    ['kernels', /^image a: .*\/kernels$/],
    ['state', /^state: .*\/state$/],
  ])('names the directory that is closed to QEMU: %s', async (name, message) => {
    chmodSync(join(folder, name), 0o700);
    expect(await look()).toMatchObject([
      {
        state: 'failed',
        found: expect.stringMatching(message),
        advice: expect.stringContaining('chmod o+x'),
      },
    ]);
  });

  it('has nothing to say where QEMU is root', async () => {
    chmodSync(join(folder, 'images'), 0o700);
    expect(await look(0)).toMatchObject([{ state: 'ok' }]);
  });
});
