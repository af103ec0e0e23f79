// pbsnodes of the stand-in: lists nodes, takes them offline with a note and back.
import { exitCodeOf } from '../common/faults.ts';
import type { StatusObject } from '../common/protocol.ts';
import { Connection, runClient } from './connection.ts';
import { parseOptions } from './options.ts';
import { attributeOf, renderXmlObject } from './qstat-render.ts';

const USAGE = `usage:  pbsnodes [-{c|d|l|o|p|r}] [-m "state"] [-N "note"] [-n] [-s server] [-q] node ...
        pbsnodes [-a] [-x] [node ...]
`;

function renderText(node: StatusObject): string {
  return `${node.name}\n${node.attributes.map(([name, value]) => `     ${name} = ${value}`).join('\n')}\n\n`;
}

/** `-l [state]`: without a state, the nodes that cannot take jobs. */
function renderList(nodes: readonly StatusObject[], state: string | undefined, notes: boolean): string {
  return nodes
    .filter((node) => {
      const states = (attributeOf(node, 'state') ?? '').split(',');
      if (state === 'all') return true;
      if (state === undefined) return states.some((one) => ['offline', 'down', 'unknown'].includes(one));
      return state === 'up'
        ? !states.some((one) => ['offline', 'down'].includes(one))
        : states.includes(state);
    })
    .map((node) => {
      const note = notes ? ` ${attributeOf(node, 'note') ?? ''}` : '';
      return `${node.name.padEnd(20)} ${(attributeOf(node, 'state') ?? '').padEnd(22)}${note}`.trimEnd();
    })
    .map((line) => `${line}\n`)
    .join('');
}

async function main(argv: string[]): Promise<number> {
  const parsed = parseOptions('acdlm:noprqs:xN:', argv);
  if (parsed.invalid !== undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const options = new Map(parsed.options);
  const connection = await Connection.open('pbsnodes');
  try {
    const changes = ['o', 'c', 'r'].some((letter) => options.has(letter)) || options.has('N');
    if (changes && !options.has('l')) return await change(connection, options, parsed.operands);
    const states = options.has('l') ? parsed.operands : [];
    return await list(connection, options, options.has('l') ? [] : parsed.operands, states[0]);
  } finally {
    connection.close();
  }
}

async function change(
  connection: Connection,
  options: ReadonlyMap<string, string>,
  names: readonly string[],
): Promise<number> {
  let exitCode = 0;
  const offline = options.has('o') ? true : options.has('c') || options.has('r') ? false : undefined;
  for (const name of names) {
    const reply = await connection.ask({ kind: 'node', name, offline, note: options.get('N') });
    if (reply.code === 0) continue;
    process.stderr.write(`pbsnodes: ${reply.text.trimEnd()} ${name}\n`);
    exitCode = exitCodeOf(reply.code);
  }
  return exitCode;
}

async function list(
  connection: Connection,
  options: ReadonlyMap<string, string>,
  names: readonly string[],
  state: string | undefined,
): Promise<number> {
  const found: StatusObject[] = [];
  let exitCode = 0;
  for (const name of names.length === 0 ? [undefined] : names) {
    const reply = await connection.ask({ kind: 'nodes', name });
    if (reply.code === 0) found.push(...(reply.objects ?? []));
    else {
      process.stderr.write(`pbsnodes: ${reply.text}\n`);
      exitCode = exitCodeOf(reply.code);
    }
  }
  if (options.has('l')) process.stdout.write(renderList(found, state, options.has('n')));
  else if (options.has('x')) {
    const nodes = found.map((node) => renderXmlObject('Node', 'name', node)).join('');
    process.stdout.write(`<Data>${nodes}</Data>\n`);
  } else process.stdout.write(found.map(renderText).join(''));
  return exitCode;
}

runClient(main);
