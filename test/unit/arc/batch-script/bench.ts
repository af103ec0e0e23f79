// A session directory to run batch scripts in, under the shells that a guest may have.
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import {
  type ArcConfiguration,
  parseArcConfiguration,
} from '../../../../src/arc/configuration/configuration.ts';
import { parseDiag } from '../../../../src/arc/diag.ts';
import { type Grami, parseGrami } from '../../../../src/arc/grami.ts';
import { encodeBytes } from '../../../../src/arc/text.ts';

/** Program and options of each shell that is here. */
export const SHELLS: string[][] = [['/bin/sh'], ['/bin/bash'], ['/bin/busybox', 'sh']].filter(([path = '']) =>
  existsSync(path),
);

/** A site with the queue `main` and the images demo and cernvm-4.
 * @param more lines before the queue's block; may begin another block
 * @param queueLine what is said of the queue in [custom:vmbatch]
 * @param block the queue's own block */
export const configure = (more = '', queueLine = '', block = ''): ArcConfiguration =>
  parseArcConfiguration(
    `[common]\nhostname=ce.example.org\n[lrms]\nlrms=vmbatch main\n[custom:vmbatch]\nimage=demo\nimages=cernvm-4\n` +
      `memory_overhead=0 MiB\n${queueLine === '' ? '' : `queue = main ${queueLine}\n`}${more}\n[queue:main]\n${block}`,
    'arc.conf',
  );

export class ScriptBench {
  readonly root: string;
  readonly session: string;
  /** Tools of the system without bash: what a guest has that lacks it. */
  readonly withoutBash: string;
  readonly #shell: string[];

  /** @param name what its directory begins with: by default with a blank and a letter that is not ASCII */
  constructor(shell: string[], name = 'vmbatch script é-') {
    this.#shell = shell;
    this.root = mkdtempSync(join(tmpdir(), name));
    this.session = join(this.root, 'session', 'ID');
    this.withoutBash = join(this.root, 'bin');
    chmodSync(this.root, 0o755);
    mkdirSync(this.withoutBash);
    // What the launch of a job in its guest puts beside the script.
    mkdirSync(join(this.root, 'launch'));
    execFileSync('/usr/bin/mkfifo', [join(this.root, 'launch/alive')]);
    for (const name of readdirSync('/usr/bin'))
      if (!/^r?bash/.test(name)) symlinkSync(join('/usr/bin', name), join(this.withoutBash, name));
  }

  close(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  /** A new session directory with a `.diag` of before and the program `dump`, which writes what it got to
   * `seen`. */
  reset(): void {
    rmSync(join(this.root, 'session'), { recursive: true, force: true });
    mkdirSync(this.session, { recursive: true });
    writeFileSync(`${this.session}.diag`, 'left=over\n');
    writeFileSync(
      join(this.session, 'dump'),
      `#!/usr/bin/perl
open my $out, '>', 'seen' or die; binmode $out;
print $out join("\\0", @ARGV), "\\1\\1", join("\\0", map { "$_=$ENV{$_}" } sort keys %ENV);
`,
      { mode: 0o755 },
    );
  }

  /** A job that runs a line of shell. */
  program(text: string, more: Partial<Grami> = {}): Grami {
    return { ...this.grami({ args: ['/bin/sh', '-c', encodeBytes(text)] }), ...more };
  }

  grami(more: Partial<Grami> = {}): Grami {
    const bytes = encodeBytes(this.session);
    return {
      ...parseGrami(
        `joboption_directory='${bytes}'\njoboption_controldir='/c'\njoboption_gridid='ID'\njoboption_arg_0='./dump'\n`,
        'g',
      ),
      ...{ stdout: `${bytes}/std.out`, stderr: `${bytes}/std.err` },
      ...more,
    };
  }

  /** Runs the script as in a guest. */
  execute(script: string, environment: Record<string, string> = {}): SpawnSyncReturns<Buffer> {
    return this.#run(this.#write(script), environment);
  }

  /** Runs it as a mom does that does not know of guests. */
  executeOnNode(script: string, environment: Record<string, string> = {}): SpawnSyncReturns<Buffer> {
    mkdirSync(join(this.root, 'mom'), { recursive: true });
    return this.#run(this.#write(script, 'mom/7.vm.SC'), environment);
  }

  #run(path: string, environment: Record<string, string>): SpawnSyncReturns<Buffer> {
    const [program = '', ...options] = this.#shell;
    return spawnSync(program, [...options, path], {
      cwd: this.root,
      env: { PATH: '/usr/bin:/bin', HOME: this.root, PBS_JOBID: '7.vm', ...environment },
    });
  }

  /** Runs the script until `ready`, ends its whole group as the mom does; returns its exit code. */
  async terminate(script: string, ready: () => boolean): Promise<number | null> {
    const [program = '', ...options] = this.#shell;
    const child = spawn(program, [...options, this.#write(script)], {
      cwd: this.root,
      detached: true,
      stdio: 'ignore',
    });
    const ended = new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)));
    for (let tries = 0; tries < 500 && !ready(); tries++) await setTimeout(20);
    process.kill(-(child.pid ?? 0), 'SIGTERM');
    return ended;
  }

  #write(script: string, name = 'launch/script'): string {
    const path = join(this.root, name);
    writeFileSync(path, script, { encoding: 'latin1', mode: 0o700 });
    return path;
  }

  diagText(): string {
    return readFileSync(`${this.session}.diag`, 'latin1');
  }

  diag(): ReturnType<typeof parseDiag> {
    return parseDiag(this.diagText());
  }

  file(name: string): string {
    return readFileSync(join(this.session, name), 'utf8');
  }
}
