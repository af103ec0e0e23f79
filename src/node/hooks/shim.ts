// The hook shims as text: their lines `NAME=value`, which `hooks install` fills in.
import { shellQuote } from '../../util/quote.ts';

/** In every shim, and in nothing else. */
export const SHIM_MARK = "Put in place by 'vmbatch hooks install'";

export const SHIM_NAMES = [
  'prologue',
  'epilogue',
  'prologue.parallel',
  'epilogue.parallel',
  'job-starter',
] as const;
export type ShimName = (typeof SHIM_NAMES)[number];

export const isShim = (text: string): boolean => text.includes(SHIM_MARK);

/** A shim's text with its paths: the lines `NAME=…` at its top. */
export function renderShim(text: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values).reduce(
    (shim, [name, value]) =>
      shim.replace(new RegExp(`^${name}=.*$`, 'm'), () => `${name}=${shellQuote(value)}`),
    text,
  );
}

/** What a shim was filled in with; undefined if it has no such line. */
export function shimValue(
  text: string,
  name: 'node' | 'vmbatch' | 'config' | 'state' | 'queues',
): string | undefined {
  const value = new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1];
  return value?.replace(/'([^']*)'|\\(.)/g, (_, quoted, escaped) => quoted ?? escaped);
}
