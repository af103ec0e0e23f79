// Running the programs that make an image: each failure names the program and the package that has it.
import { VmbatchError } from '../../util/errors.ts';
import { describeRun, type Run, type RunOptions, type RunResult } from '../../util/processes/run.ts';

/** Debian packages of the programs that building an image starts. */
const TOOL_PACKAGES: Readonly<Record<string, string>> = {
  'apt-cache': 'apt',
  'apt-get': 'apt',
  'dpkg-deb': 'dpkg',
  mke2fs: 'e2fsprogs',
  'qemu-img': 'qemu-utils',
};

/** Runs one program of the list above; anything but exit code 0 is an error.
 * @throws VmbatchError `node`: `tool-missing` or `image-build-failed` with what the program said. */
export async function runTool(
  run: Run,
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await run(program, args, options);
  if (result.notFound) {
    throw new VmbatchError({
      fault: 'node',
      code: 'tool-missing',
      message: `building the image needs ${program}, which is not installed`,
      hint: `apt-get install ${TOOL_PACKAGES[program] ?? program}`,
    });
  }
  if (result.exitCode !== 0) {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-build-failed',
      message: `building the image failed: ${describeRun(result)}`,
      hint: program.startsWith('apt-') ? 'see whether apt-get update reaches the package sources' : undefined,
    });
  }
  return result;
}
