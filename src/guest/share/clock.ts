// Whether this node and the server of the share tell the same time. Where they do not, certificates and
// tickets are refused in guests, and what is young on the one is old on the other.

/** What a slow share and whole seconds may make of clocks that agree. */
const TOLERANCE_MS = 30_000;

/** @param changedMs when the server says that a file was changed (ctime: no client can set it)
 * @param notBeforeMs when it cannot have been there yet, by this node's clock
 * @returns what is wrong, with what to do; undefined: nothing */
export function clockProblem(
  share: string,
  changedMs: number,
  notBeforeMs: number,
  nowMs = Date.now(),
): string | undefined {
  const ahead = changedMs - nowMs;
  const behind = notBeforeMs - changedMs;
  if (Math.max(ahead, behind) <= TOLERANCE_MS) return undefined;
  const difference = ahead > 0 ? `${inWords(ahead)} ahead of` : `${inWords(behind)} behind`;
  return `the clock of the share ${share} is ${difference} this node's: have NTP set both (timedatectl)`;
}

function inWords(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 600
    ? `${seconds} s`
    : seconds < 36_000
      ? `${Math.round(seconds / 60)} min`
      : `${Math.round(seconds / 3600)} h`;
}
