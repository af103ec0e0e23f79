// The recordings of a real TORQUE (test/fixtures/torque) as the contract compares with them.
import { readFileSync } from 'node:fs';

export function fixture(name: string): string {
  return readFileSync(new URL(`../fixtures/torque/${name}`, import.meta.url), 'utf8');
}

export function fixtureJson<T>(name: string): T {
  return JSON.parse(fixture(name)) as T;
}

/** Exit code and stderr of a recorded command, found by the command or by the comment above it. */
export function recordedCommand(file: string, name: string): { code: number; stderr: string } {
  const lines = fixture(file).split('\n');
  const at = lines.findIndex((line) => line === `# ${name}` || line === `$ ${name}`);
  if (at < 0) throw new Error(`${file}: nothing recorded for '${name}'`);
  const begin = lines.slice(at).findIndex((line) => line.startsWith('exit code: ')) + at;
  const next = lines.slice(begin).findIndex((line) => /^(# |\$ )/.test(line));
  const block = lines.slice(begin, next < 0 ? undefined : begin + next);
  const code = Number(/^exit code: (\d+)/.exec(block[0] ?? '')?.[1]);
  const text = block.indexOf('stderr:');
  return {
    code,
    stderr:
      text < 0
        ? ''
        : block
            .slice(text + 1)
            .join('\n')
            .trim(),
  };
}
