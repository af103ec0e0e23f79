import { describe, expect, it } from 'vitest';
import {
  followCommand,
  launchProgram,
  restCommand,
  signalCommand,
  watchCommand,
} from '../../../../src/guest/session/remote-programs.ts';

const DIRECTORY = '/var/tmp/vmbatch-112.server';

describe('what is sent to a guest', () => {
  it('is the pinned text for the start of a job', async () => {
    const program = launchProgram({
      directory: DIRECTORY,
      scriptName: '112.server.SC',
      script: Buffer.from('#!/bin/sh\necho hello\n'),
      scriptArguments: ' one two',
      environment: { PBS_JOBID: '112.server', TRICKY: "it's" },
      nodeFile: Buffer.from('node-1\n'),
      umask: 0o077,
      limits: [
        { flag: '-n', soft: 1024, hard: 4096 },
        { flag: '"$processes"', soft: 'unlimited', hard: 'unlimited' },
      ],
      shell: '/bin/bash',
      login: true,
    });
    await expect(program).toMatchFileSnapshot('../../../golden/node/job-launch.sh');
  });

  it('is the pinned text for everything after that', () => {
    expect([
      watchCommand(DIRECTORY),
      followCommand(DIRECTORY, 'out', 10),
      restCommand(DIRECTORY, 'err', 0),
      signalCommand(DIRECTORY, 'USR1'),
    ]).toMatchInlineSnapshot(`
      [
        "exec /bin/sh -c 'cd "$1" && { exec 8<>alive 7<alive 8>&-; read -r nothing <&7; cat exit 2>/dev/null; true; }' vmbatch '/var/tmp/vmbatch-112.server'",
        "exec /bin/sh -c 'exec tail -c +11 -f "$1/out"' vmbatch '/var/tmp/vmbatch-112.server'",
        "exec /bin/sh -c 'exec tail -c +1 "$1/err"' vmbatch '/var/tmp/vmbatch-112.server'",
        "exec /bin/sh -c 'read -r pid <"$1/pid" && kill -USR1 "-$pid"' vmbatch '/var/tmp/vmbatch-112.server'",
      ]
    `);
  });

  it('keeps the name of a folder one word', () => {
    expect(watchCommand(`/tmp/it's $(id)`)).toMatch(/'\/tmp\/it'\\''s \$\(id\)'$/);
  });
});
