// Durations, dates and folded lines as TORQUE writes them.
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** Seconds as `HH:MM:SS`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

/** `S`, `M:S`, `H:M:S` or `D:H:M:S` (a fraction is dropped) in seconds; undefined if it is none of them. */
export function parseDuration(text: string): number | undefined {
  if (!/^\d+(:\d+){0,3}(\.\d*)?$/.test(text)) return undefined;
  const weights = [1, 60, 3600, 86400];
  const parts = text.replace(/\..*$/, '').split(':').reverse();
  return parts.reduce((sum, part, index) => sum + Number(part) * (weights[index] ?? 0), 0);
}

/** Epoch seconds as `Sun Nov 22 09:17:13 2026`, in local time. */
export function formatDate(epochSeconds: number): string {
  const date = new Date(epochSeconds * 1000);
  return `${DAYS[date.getDay()]} ${MONTHS[date.getMonth()]} ${String(date.getDate()).padStart(2)} ${clock(date)} ${date.getFullYear()}`;
}

/** The comment of a started job: `Job started on Sun Nov 22 at 09:17`. */
export function startComment(date: Date): string {
  const day = `${DAYS[date.getDay()]} ${MONTHS[date.getMonth()]} ${two(date.getDate())}`;
  return `Job started on ${day} at ${two(date.getHours())}:${two(date.getMinutes())}`;
}

function clock(date: Date): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `11/22/2026 09:17:13`, as log and accounting lines begin. */
export function logDate(date: Date): string {
  return `${two(date.getMonth() + 1)}/${two(date.getDate())}/${date.getFullYear()} ${clock(date)}`;
}

/** `20261122`: the name of a day's log file. */
export function dayName(date: Date): string {
  return `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
}

/** One attribute line of `qstat -f`: folded before column 79, where possible after a comma, and the
 * continuation begun with a TAB that counts as eight columns. Readers must join, since words are cut too. */
export function foldAttribute(name: string, value: string): string {
  let line = `    ${name} = `;
  let column = name.length + 7;
  const pieces = value.split(',');
  for (const [index, piece] of pieces.entries()) {
    if (piece.length + column < 78) {
      line += piece;
      column += piece.length;
    } else {
      if (index > 0) {
        line += '\n\t';
        column = 9;
      }
      for (const character of piece) {
        line += character;
        if (++column > 77) {
          line += '\n\t';
          column = 8;
        }
      }
    }
    if (index < pieces.length - 1) {
      line += ',';
      column += 1;
    }
  }
  return line;
}
