// The node file, /etc/vmbatch/node.yaml: from YAML text to a NodeConfig, or one error with every problem in
// it.
import { realpathSync } from 'node:fs';
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from 'yaml';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { readForeignFile } from '../util/files/files.ts';
import { writableByOthers } from '../util/files/trusted-file.ts';
import { commandLine } from '../util/quote.ts';
import type { NodeConfig } from './config.ts';
import { directoryProblems } from './directories.ts';
import { crossCheck, type NodeFileProblem, showPath, translateIssue } from './problems.ts';
import { checkSchema } from './schema.ts';

export type { NodeConfig } from './config.ts';
export { BUILT_IN_DEFAULTS } from './config.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const HINT = 'correct the file; share/examples/node.yaml shows every key';

/** Reads and checks a node file. A symbolic link is followed, since sites keep the file on a share.
 * @throws VmbatchError `node`: `config-unreadable`, `config-unsafe`, or what {@link parseNodeConfig}
 * throws. */
export function loadNodeConfig(path: string): NodeConfig {
  const unreadable = (why: string, cause?: unknown) =>
    new VmbatchError({
      fault: 'node',
      code: 'config-unreadable',
      message: `node file ${path}: ${why}`,
      hint: 'write it from share/examples/node.yaml',
      cause,
    });
  let target: string;
  try {
    target = realpathSync(path);
  } catch (error) {
    throw unreadable(
      errnoOf(error) === 'ENOENT' ? 'does not exist' : `cannot be read (${errnoOf(error)})`,
      error,
    );
  }
  // Whoever can write it decides what root runs. Anybody else than root reads it for himself.
  const unsafe = process.geteuid?.() === 0 ? writableByOthers(path) : undefined;
  if (unsafe !== undefined)
    throw new VmbatchError({
      fault: 'node',
      code: 'config-unsafe',
      message: `node file ${path}: ${unsafe}, and what stands in the file is done as root`,
      hint: `give it to root, and to nobody else to write: ${commandLine('chown', 'root:root', path)}; ${commandLine('chmod', 'go-w', path)}`,
    });
  const bytes = readForeignFile(target, { maxBytes: MAX_FILE_BYTES }, 'node');
  if (bytes === undefined) throw unreadable('does not exist');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw unreadable('is not UTF-8 text', error);
  }
  return parseNodeConfig(text, path);
}

/** Checks the text of a node file. `fileName` is for messages.
 * @throws VmbatchError `node` (`config-invalid`) whose message has a line for each problem:
 * `FILE:LINE:COLUMN: KEY: found VALUE, allowed: …`. */
export function parseNodeConfig(text: string, fileName: string): NodeConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  // Warnings are tags that mean nothing: the value would be taken for something else.
  const notYaml = [...document.errors, ...document.warnings].map((error) => ({
    ...at(error.pos[0]),
    text:
      error.code === 'DUPLICATE_KEY'
        ? duplicateKey(document, error.pos[0], at)
        : `not valid YAML: ${error.message}`,
  }));
  if (notYaml.length > 0) throw invalid(fileName, notYaml);
  let content: unknown;
  try {
    keepNumbersAsWritten(document);
    content = document.toJS();
  } catch (error) {
    // Aliases without an anchor, or so many that they are meant to harm.
    const why = error instanceof Error ? error.message : String(error);
    throw invalid(fileName, [{ line: 1, column: 1, text: `not valid YAML: ${why}` }]);
  }
  const { issues, config } = checkSchema(content);
  const problems = [
    ...issues.flatMap((issue) => translateIssue(issue, content)),
    ...crossCheck(content),
    ...(config === undefined ? [] : directoryProblems(config)),
  ];
  if (config !== undefined && problems.length === 0) return config;
  throw invalid(
    fileName,
    problems.map((problem) => ({
      ...at(offsetOf(document, problem)),
      text:
        problem.path.length === 0
          ? `the file: ${problem.text}`
          : `${showPath(problem.path)}: ${problem.text}`,
    })),
  );
}

/** Which key stands there again, and where it stood first. */
function duplicateKey(document: Document, offset: number, at: (offset: number) => Place): string {
  let text = 'this key stands here twice';
  visit(document, {
    Map(_key, map) {
      const again = map.items.find(({ key }) => isScalar(key) && key.range?.[0] === offset)?.key;
      if (!isScalar(again)) return undefined;
      const first = map.items.find(({ key }) => isScalar(key) && key.value === again.value)?.key;
      const start = isScalar(first) ? first.range?.[0] : undefined;
      const where = start === undefined ? 'before' : `in line ${at(start).line}`;
      text = `${showPath([String(again.value)])} stands here again, and first ${where}: keep one of the two`;
      return visit.BREAK;
    },
  });
  return text;
}

/** A number that is not written as everybody reads it (`022`, `0x16`, `3.0`, `1e3`, and `1_000` with
 * `%YAML 1.1`) stays the text that it is: what wants a number then refuses it, and says what was found. */
function keepNumbersAsWritten(document: Document): void {
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'number' && node.source !== undefined && String(node.value) !== node.source)
        node.value = node.source;
    },
  });
}

interface Place {
  line: number;
  column: number;
}

function invalid(fileName: string, problems: readonly (Place & { text: string })[]): VmbatchError {
  const sorted = [...problems].sort((a, b) => a.line - b.line || a.column - b.column);
  const shown = sorted.map(({ line, column, text }) => `${fileName}:${line}:${column}: ${text}`);
  const message =
    shown.length === 1
      ? shown.join('')
      : [`${shown.length} problems in the node file`, ...shown.map((line) => `  ${line}`)].join('\n');
  return new VmbatchError({ fault: 'node', code: 'config-invalid', message, hint: HINT });
}

/** Where a problem stands: at its value, or at its key, or at the key of the innermost mapping there is. */
function offsetOf(document: Document, problem: NodeFileProblem): number {
  let node = resolve(document, document.contents);
  let offset = 0;
  for (const [depth, key] of problem.path.entries()) {
    const step = child(node, key);
    if (step === undefined) return offset;
    const isLast = depth === problem.path.length - 1;
    const keyOffset = step.key?.range?.[0];
    // An alias counts where it stands, not where its anchor is; an empty value has no text of its own.
    const isWritten = isAlias(step.value) || !isScalar(step.value) || step.value.value !== null;
    const valueOffset = isWritten ? step.value?.range?.[0] : undefined;
    const useKey = !isLast || problem.atKey || isMap(step.value);
    offset = (useKey ? (keyOffset ?? valueOffset) : (valueOffset ?? keyOffset)) ?? offset;
    node = resolve(document, step.value);
  }
  return offset;
}

interface Step {
  key: Node | undefined;
  value: Node | null;
}

function child(parent: Node | null, key: PropertyKey): Step | undefined {
  if (isMap<Node, Node | null>(parent)) {
    const pair = parent.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
    return pair === undefined ? undefined : { key: pair.key, value: pair.value };
  }
  if (isSeq<Node | null>(parent) && typeof key === 'number') {
    const item = parent.items[key];
    return item === undefined ? undefined : { key: undefined, value: item };
  }
  return undefined;
}

function resolve(document: Document, node: Node | null): Node | null {
  return isAlias(node) ? (node.resolve(document) ?? null) : node;
}
