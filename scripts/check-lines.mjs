// Checks that comments and documents have lines of at most 110 columns: `npm run check`. Code is the
// formatter's matter, and tables may be as wide as they need.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const WIDTH = 110;
const root = join(import.meta.dirname, '..');
const isComment = (line) => /^\s*(\/\/|\/\*|\*)/.test(line);

const files = [
  ...readdirSync(root),
  ...['docs', 'scripts', 'src', 'test'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)),
  ),
].filter((name) => /\.(ts|mts|mjs|cjs|md)$/.test(name) && !/^test\/(fixtures|golden)\//.test(name));
const tooLong = files.flatMap((name) => {
  const isBound = name.endsWith('.md') ? (line) => !line.startsWith('|') : isComment;
  return readFileSync(join(root, name), 'utf8')
    .split('\n')
    .flatMap((line, index) => ([...line].length > WIDTH && isBound(line) ? [`${name}:${index + 1}`] : []));
});
for (const place of tooLong) process.stderr.write(`${place}: more than ${WIDTH} columns\n`);
process.exitCode = tooLong.length === 0 ? 0 : 1;
