// What the mom hands to prologue and epilogue.
import { VmbatchError } from '../../../util/errors.ts';
import { isJobId } from '../job-id.ts';

export interface HookArguments {
  jobId: string;
  user: string;
  group: string;
  jobName: string;
  queue: string;
  /** What the job asked for: `nodes=1:ppn=2,walltime=00:30:00`. */
  resources: string;
  /** The job script on the mom, owned by the job's user. */
  script: string;
}

export interface EpilogueArguments extends HookArguments {
  /** What TORQUE takes for the job's exit status; 0 when the mom was restarted meanwhile. */
  exitStatus: number;
  /** Of the job; 0: nothing of it was ever started. Undefined: not known. */
  session?: number | undefined;
}

/** A job's id is also a part of names of files, with some thirty characters beside it. */
const MAX_ID_LENGTH = 215;

const isId = (text: string) => text.length <= MAX_ID_LENGTH && isJobId(text);

/** The queue among a prologue's or an epilogue's arguments, before anything is asked of the others: the mom
 * calls the hooks for the jobs of all queues, and most are none of ours.
 * @returns undefined if there are too few */
export const queueOfPrologue = (argv: readonly string[]): string | undefined => argv[5];
export const queueOfEpilogue = (argv: readonly string[]): string | undefined => argv[7];

/** A prologue's eight arguments: id, user, group, name, resources asked for, queue, account, script. */
export function parsePrologueArguments(argv: readonly string[]): HookArguments {
  const [jobId, user, group, jobName, resources, queue, , script] = argv;
  return check('prologue', 8, argv, { jobId, user, group, jobName, resources, queue, script });
}

/** An epilogue's eleven: id, user, group, name, session, resources asked for, resources used, queue, account,
 * exit status, script. */
export function parseEpilogueArguments(argv: readonly string[]): EpilogueArguments {
  const [jobId, user, group, jobName, session, resources, , queue, , exitStatus, script] = argv;
  return {
    ...check('epilogue', 11, argv, { jobId, user, group, jobName, resources, queue, script }),
    exitStatus: Number.parseInt(exitStatus ?? '0', 10) || 0,
    session: /^[0-9]{1,10}$/.test(session ?? '') ? Number(session) : undefined,
  };
}

const ID_RULE = `allowed: NUMBER.SERVER or NUMBER[INDEX].SERVER, at most ${MAX_ID_LENGTH} characters; letters, digits and _ . : @ + ~ [ ] - in the server's name`;

type Unchecked = { [key in keyof HookArguments]: string | undefined };

function check(hook: string, count: number, argv: readonly string[], values: Unchecked): HookArguments {
  const { jobId, user, group, jobName, resources, queue, script } = values;
  const problem =
    argv.length !== count
      ? `was given ${argv.length} arguments, TORQUE 6 gives ${count}`
      : jobId === undefined || !isId(jobId)
        ? `was given ${JSON.stringify(jobId)} as job id: ${ID_RULE}`
        : undefined;
  if (
    problem !== undefined ||
    jobId === undefined ||
    user === undefined ||
    group === undefined ||
    jobName === undefined ||
    resources === undefined ||
    queue === undefined ||
    script === undefined
  )
    throw new VmbatchError({
      fault: 'node',
      code: 'hook-arguments',
      message: `the ${hook} ${problem ?? 'lacks arguments'}`,
      hint: 'is this another batch system, or another version of TORQUE?',
    });
  return { jobId, user, group, jobName, resources, queue, script };
}

/** The wall-clock limit among the resources of a job (`walltime=01:30:00` or `walltime=90`), in seconds;
 * undefined if there is none. */
export function wallSecondsOf(resources: string): number | undefined {
  const value = /(?:^|,)walltime=([0-9:]{1,20})(?:,|$)/.exec(resources)?.[1];
  if (value === undefined) return undefined;
  return value.split(':').reduce((seconds, part) => seconds * 60 + Number(part), 0);
}

/** @throws VmbatchError `node` if it is not a TORQUE job id. */
export function checkJobId(jobId: string | undefined): string {
  if (jobId !== undefined && isId(jobId)) return jobId;
  throw new VmbatchError({
    fault: 'node',
    code: 'job-id',
    message: `${JSON.stringify(jobId)} is not the id of a TORQUE job: ${ID_RULE}`,
  });
}
