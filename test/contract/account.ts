// The throw-away account that submits the contract's jobs, and commands run in its name.
import { type ExecFileException, execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** Made by useradd, with its home below `directory`. */
export function addAccount(directory: string): Account {
  const name = `vmbc${process.pid}`;
  const home = join(directory, 'home');
  execFileSync('useradd', ['--create-home', '--home-dir', home, '--shell', '/bin/bash', name], {
    stdio: 'ignore',
  });
  const number = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { name, uid: number('-u'), gid: number('-g'), home };
}

interface RunOptions {
  env: NodeJS.ProcessEnv;
  cwd: string;
  uid?: number;
  gid?: number;
  input?: string;
}

/** Never rejects: what cannot be started has code -1. */
export function run(argv: readonly string[], options: RunOptions): Promise<Result> {
  const { input, ...rest } = options;
  const [program = '', ...words] = argv;
  return new Promise((resolve) => {
    const done = (error: ExecFileException | null, stdout: string, stderr: string): void =>
      resolve({
        code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1,
        stdout,
        stderr,
      });
    const child = execFile(program, words, { ...rest, encoding: 'utf8' }, done);
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}
