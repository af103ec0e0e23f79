import { describe, expect, it } from 'vitest';
import { findAccount } from '../../../../src/util/accounts/account.ts';
import { FAULT_OUTCOMES, toVmbatchError } from '../../../../src/util/errors.ts';

describe('findAccount', () => {
  it.each(['nosuch-user', 'DOMAIN\\nosuch', 'no such', '-n', '4294967294'])(
    'does not blame the node for an account that it does not know: %s',
    async (name) => {
      const error = toVmbatchError(await findAccount(name).catch((thrown: unknown) => thrown), 'node');
      expect(error).toMatchObject({ code: 'account-unknown' });
      expect(FAULT_OUTCOMES[error.fault]).toMatchObject({ prologueExit: 2, countsAgainstNode: false });
    },
  );
});
