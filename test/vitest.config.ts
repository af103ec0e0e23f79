import { defineConfig } from 'vitest/config';

const root = new URL('..', import.meta.url).pathname;

export default defineConfig({
  test: {
    root,
    reporters: ['default'],
    projects: [
      {
        test: {
          name: 'unit',
          root,
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 20_000,
          setupFiles: ['test/support/no-own-ids.cjs'],
        },
      },
      {
        // Real guests, daemons and accounts: one file after the other, on two cores.
        test: {
          name: 'system',
          root,
          include: ['test/{contract,guest,system}/**/*.test.ts'],
          testTimeout: 60_000,
          setupFiles: ['test/support/no-own-ids.cjs'],
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'mistakes',
          root,
          include: ['test/mistakes/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
