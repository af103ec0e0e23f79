// Resource requests: which names exist, how their values are written, and the node specification.
import { BatchFault } from '../common/faults.ts';
import { formatDuration, parseDuration } from '../common/format.ts';
import type { Pair } from '../common/protocol.ts';

const DURATIONS = new Set(['walltime', 'cput', 'pcput']);
const SIZES = new Set(['mem', 'pmem', 'vmem', 'pvmem', 'file', 'size']);
const TEXTS = new Set(
  'arch epilogue feature flags gattr gres host nccpus ncpus neednodes nice nodect nodes opsys other procct procs prologue qos software'.split(
    ' ',
  ),
);

/** One part of a node specification: so many nodes, each with so many processors and all the properties. */
export interface NodeRequest {
  count: number;
  processors: number;
  properties: string[];
}

/** Checks names and values and writes durations as `HH:MM:SS`. */
export function checkResources(asked: readonly Pair[]): Pair[] {
  return asked.map(([name, value]): Pair => {
    if (DURATIONS.has(name)) {
      const seconds = parseDuration(value);
      if (seconds === undefined) throw new BatchFault('badValue', `Resource_List.${name}`);
      return [name, formatDuration(seconds)];
    }
    if (SIZES.has(name)) {
      if (!/^\d+([kmgtp]?[bw])?$/i.test(value)) throw new BatchFault('badValue', `Resource_List.${name}`);
      return [name, value];
    }
    if (!TEXTS.has(name)) throw new BatchFault('unknownResource', `Resource_List.${name}`);
    return [name, value];
  });
}

/** `2:ppn=4:fast+1`; throws `Command syntax invalid` as TORQUE does. */
export function parseNodeSpec(text: string): NodeRequest[] {
  return text.split('+').map((part) => {
    const request: NodeRequest = { count: 1, processors: 1, properties: [] };
    for (const [index, word] of part.split(':').entries()) {
      const processors = /^ppn=(.*)$/.exec(word);
      if (processors !== null) {
        if (!/^[1-9]\d*$/.test(processors[1] ?? '')) throw new BatchFault('syntax', 'MSG=Invalid Syntax');
        request.processors = Number(processors[1]);
      } else if (index === 0 && /^\d+$/.test(word)) request.count = Number(word);
      else if (/^[\w.-]+$/.test(word)) request.properties.push(word);
      else throw new BatchFault('syntax', 'MSG=Invalid Syntax');
    }
    if (request.count < 1) throw new BatchFault('syntax', 'MSG=Invalid Syntax');
    return request;
  });
}

/** The full list in TORQUE's order: what was asked for, the count of nodes as soon as `nodes` is known, and
 * the queue's defaults for the rest. */
export function completeResources(asked: readonly Pair[], defaults: readonly Pair[]): Pair[] {
  const list = [...asked];
  const has = (name: string): boolean => list.some(([other]) => other === name);
  const count = (): void => {
    const nodes = list.find(([name]) => name === 'nodes')?.[1];
    if (nodes === undefined || has('nodect')) return;
    const total = parseNodeSpec(nodes).reduce((sum, part) => sum + part.count, 0);
    list.push(['nodect', String(total)], ['neednodes', nodes]);
  };
  count();
  for (const [name, value] of defaults) if (!has(name)) list.push([name, value]);
  count();
  return list;
}

/** Bytes of `512mb`; undefined if it is no size. */
export function sizeInBytes(text: string): number | undefined {
  const match = /^(\d+)([kmgtp]?)([bw])?$/i.exec(text);
  if (match === null) return undefined;
  const power = ['', 'k', 'm', 'g', 't', 'p'].indexOf((match[2] ?? '').toLowerCase());
  return Number(match[1]) * 1024 ** power * (match[3]?.toLowerCase() === 'w' ? 8 : 1);
}

/** Whether `value` lies above the queue's `limit`; what cannot be compared is taken as allowed. */
export function exceeds(name: string, value: string, limit: string): boolean {
  const measure = DURATIONS.has(name) ? parseDuration : SIZES.has(name) ? sizeInBytes : Number;
  const [asked, allowed] = [measure(value), measure(limit)];
  return asked !== undefined && allowed !== undefined && asked > allowed;
}
