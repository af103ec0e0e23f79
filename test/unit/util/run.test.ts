import { expect, it } from 'vitest';
import { run } from '../../../src/util/run.ts';

it('run keeps the output of a program, and gives it away as it comes when asked to', async () => {
  const kept = await run('sh', ['-c', 'cat; echo said >&2; exit 3'], { input: 'given' });
  expect(kept).toMatchObject({ stdout: 'given', stderr: 'said\n', exitCode: 3 });
  let bytes = 0;
  const streamed = await run('sh', ['-c', 'seq 1 300000; echo said >&2; exit 3'], {
    maxBytes: 1024,
    onStdout: (chunk) => {
      bytes += chunk.length;
    },
  });
  expect(streamed).toMatchObject({ stdout: '', stderr: 'said\n', exitCode: 3 });
  expect(bytes).toBe(1_988_895);
});
