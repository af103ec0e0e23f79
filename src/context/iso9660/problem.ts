// The one error of the ISO writer: its input is made by vmbatch itself, so what is wrong with it is a bug.
import { VmbatchError } from '../../util/errors.ts';

export function isoBug(message: string): VmbatchError {
  return new VmbatchError({ fault: 'bug', code: 'iso-invalid', message: `ISO image: ${message}` });
}
