import type { Plugin } from 'esbuild';

export function bundledHelper(): Promise<string>;
export const helperInBundle: Plugin;
