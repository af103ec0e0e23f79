// Bytes that pass through: what A-REX hands on is kept as latin1 strings, one character a byte, until it is
// written.

/** A byte string (latin1, as everything from a grami file) as text: for messages and for paths given to
 * Node. */
export function decodeBytes(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** Text as a byte string, the opposite of `decodeBytes`. */
export function encodeBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** A byte string for an error message: JSON-escaped, and cut so that nobody's log is flooded. */
export function showBytes(bytes: string, limit = 80): string {
  const text = decodeBytes(bytes.slice(0, limit * 4));
  return text.length > limit || bytes.length > limit * 4
    ? `${JSON.stringify(text.slice(0, limit))}...`
    : JSON.stringify(text);
}
