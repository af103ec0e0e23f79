// vmbatch epilogue [--config FILE] and the eleven arguments of TORQUE's epilogue
import { loadNodeConfig } from '../config/node.ts';
import { openNode, takeConfigOption } from '../node/environment.ts';
import { endGuest } from '../node/epilogue.ts';
import { parseEpilogueArguments } from '../torque/hook-arguments.ts';

const HELP = `usage: vmbatch epilogue [--config FILE] JOBID USER GROUP NAME SESSION RESOURCES USED QUEUE ACCOUNT EXIT SCRIPT

TORQUE's epilogue, called by the shim that 'vmbatch hooks install' puts in place: destroys the guest of the job
and removes all that was made for it. Exit codes (TORQUE ignores them): 0 nothing is left, 3 something is.
`;

export async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  const { file, rest } = takeConfigOption(argv);
  const config = loadNodeConfig(file);
  const hook = parseEpilogueArguments(rest);
  if (!config.queues.includes(hook.queue)) return 0;
  const node = await openNode(config, hook.jobId);
  try {
    return (await endGuest({ ...node, hook })) ? 0 : 3;
  } catch (error) {
    node.log.write('error', error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    await node.log.close();
  }
}
