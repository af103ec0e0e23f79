// The helper's source. A bundle has it in the place of this module (scripts/bundled-helper.mjs); run from its
// own source, the program compiles it when it is first needed.
let compiled: Promise<string> | undefined;

/** For `node -e`. */
export async function helperSource(): Promise<string> {
  compiled ??= import('../../../../scripts/bundled-helper.mjs').then(({ bundledHelper }) => bundledHelper());
  return compiled;
}
