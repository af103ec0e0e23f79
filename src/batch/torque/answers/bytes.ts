// Looking at bytes one by one, where decoding them first would take most of the time.

export function startsWith(bytes: Uint8Array, start: Uint8Array, from: number): boolean {
  let index = 0;
  while (index < start.length && bytes[from + index] === start[index]) index++;
  return index === start.length;
}

/** Where the first byte is that is no blank, tab or end of a line. */
export function skipBlanks(bytes: Uint8Array, from: number): number {
  let at = from;
  for (
    let byte = bytes[at];
    byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
    byte = bytes[at]
  )
    at++;
  return at;
}

export const isBlank = (bytes: Uint8Array) => skipBlanks(bytes, 0) === bytes.length;
