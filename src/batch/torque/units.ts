// TORQUE's spellings of durations, sizes and slots.

/** `01:02:03`, `1:00` and plain seconds, all of which 6.1 writes, in seconds; undefined for anything else. */
export function parseDuration(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9]{1,9}(:[0-9]{1,9}){0,3}$/.test(text)) return undefined;
  const parts = text.split(':').map(Number);
  const [seconds = 0, minutes = 0, hours = 0, days = 0] = parts.reverse();
  return seconds + 60 * (minutes + 60 * (hours + 24 * days));
}

/** `6360kb`, `512mb`, `536870912b` in KiB, rounded up. */
export function parseSize(text: string | undefined): number | undefined {
  const match = /^([0-9]{1,15})(b|kb|mb|gb|tb)?$/i.exec(text ?? '');
  if (match?.[1] === undefined) return undefined;
  const shift = { b: -1, kb: 0, mb: 1, gb: 2, tb: 3 }[(match[2] ?? 'b').toLowerCase()] ?? 0;
  return Math.ceil(Number(match[1]) * 1024 ** shift);
}

/** `vm/1-2+node7/0` or `vm/1,3`: hosts with the number of their slots, in order. */
export function parseExecHost(text: string | undefined): { host: string; slots: number }[] {
  const slots = new Map<string, number>();
  for (const part of (text ?? '').split('+')) {
    const [host, list] = part.split('/');
    if (host === undefined || host === '') continue;
    slots.set(host, (slots.get(host) ?? 0) + countIndices(list ?? '0'));
  }
  return [...slots].map(([host, count]) => ({ host, slots: count }));
}

/** Where a job is and how many slots it holds there. Some builds name one slot of each host, whatever was
 * asked for, as in `n1/2` for `1:ppn=8`: the job holds what it asked for.
 * @param requested slots of its node request */
export function placeJob(execHost: string | undefined, requested: number): { host: string; slots: number }[] {
  const nodes = parseExecHost(execHost);
  const missing = requested - nodes.reduce((sum, { slots }) => sum + slots, 0);
  if (missing <= 0) return nodes;
  const each = Math.floor(missing / nodes.length);
  return nodes.map(({ host, slots }, index) => ({
    host,
    slots: slots + each + (index < missing % nodes.length ? 1 : 0),
  }));
}

/** How many indices `0-2,5` names. */
export function countIndices(list: string): number {
  let count = 0;
  for (const range of list.split(',')) {
    const [first = '0', last = first] = range.split('-');
    count += Math.max(1, Number(last) - Number(first) + 1) || 1;
  }
  return count;
}
