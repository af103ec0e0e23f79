// What is added to the error of a start that failed because its time was over: how the guest's console
// ended, and who set the time.
import { type MomConfig, prologAlarmOf, saidPrologAlarm } from '../../batch/torque/mom/mom-config.ts';
import { VmbatchError } from '../../util/errors.ts';
import { wantedAlarm } from '../mom-lines.ts';

interface StartTime {
  /** The mom's configuration; undefined: no mom waits for this start. */
  mom: MomConfig | undefined;
  /** After which the start gave up, to undo what it had made; milliseconds. */
  giveUpAt: number;
  /** `timeouts.ready`; milliseconds. */
  readyMs: number;
  /** The last lines of the guest's console. */
  said: readonly string[];
}

const OF_GUEST = new Set(['guest-not-ready', 'guest-died']);
/** Of these, the time may be what was wrong. */
const OF_TIME = new Set(['guest-not-ready', 'peer-silent', 'starts-busy', 'no-room']);

/** The error as its reader needs it. */
export function explainLateStart(error: VmbatchError, time: StartTime): VmbatchError {
  const { mom, giveUpAt, readyMs, said } = time;
  // With the alarm that `check node` asks for, a few seconds of the time are for undoing.
  const isShort = mom !== undefined && prologAlarmOf(mom) < wantedAlarm(readyMs) && giveUpAt < readyMs;
  const isCut = isShort && OF_TIME.has(error.code);
  const words = OF_GUEST.has(error.code) && said.length > 0 ? `; its console ended: ${said.join(' | ')}` : '';
  if (!isCut && words === '') return error;
  const { fault, code, message, jobId, cause } = error;
  if (!isCut)
    return new VmbatchError({ fault, code, message: `${message}${words}`, hint: error.hint, jobId, cause });
  const line = saidPrologAlarm(mom) === undefined ? 'no $prologalarm, which means' : '$prologalarm';
  const [left, ready] = [Math.round(giveUpAt / 1000), readyMs / 1000];
  return new VmbatchError({
    ...{ fault, code, jobId, cause },
    message: [
      `${message}; ${mom.file} has ${line} ${prologAlarmOf(mom)}:`,
      `that leaves ${left} s for a start, and timeouts.ready is ${ready} s${words}`,
    ].join(' '),
    hint: [
      `write "$prologalarm ${wantedAlarm(readyMs)}" into ${mom.file} and restart pbs_mom with -p,`,
      'or make timeouts.ready shorter',
    ].join(' '),
  });
}
