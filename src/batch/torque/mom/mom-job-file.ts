// The mom's own file of a job, `JOB.JB`: XML that its job_save writes. Only what says where the job's output
// goes is read; nothing else in there can make that unreadable.
import { decodeText } from '../answers/xml.ts';

export interface MomJob {
  name: string;
  /** `HOST:/path`, as `qstat -f` shows them. */
  errorPath: string | undefined;
  outputPath: string | undefined;
  /** `oe`: both in the output file; `eo`: both in the error file; `n`. */
  join: string;
  /** Which of `o` and `e` stay in the owner's home. */
  keep: string;
  umask: number;
  variables: Map<string, string>;
  isInteractive: boolean;
}

/** What the mom takes where a job says nothing of it (`-W umask`). */
const USUAL_UMASK = 0o077;

/** @returns undefined if it is no job's */
export function parseMomJob(xml: string): MomJob | undefined {
  // A `<` within a value is written as an entity, so that an owner cannot bring in an element.
  const [attributes] = /<attributes>.*<\/attributes>/s.exec(xml) ?? [];
  const value = (name: string) => {
    const found = new RegExp(`<${name}(?: [^<>]*)?>([^<]*)</${name}>`).exec(attributes ?? '');
    return found?.[1] === undefined ? undefined : decodeText(found[1]);
  };
  const name = value('Job_Name');
  if (name === undefined) return undefined;
  const umask = value('umask') ?? '';
  return {
    name,
    errorPath: value('Error_Path'),
    outputPath: value('Output_Path'),
    join: value('Join_Path') ?? 'n',
    keep: value('Keep_Files') ?? 'n',
    // A number to base ten, whatever base it was asked for in.
    umask: /^[0-9]{1,5}$/.test(umask) ? Number(umask) & 0o777 : USUAL_UMASK,
    variables: parseVariables(value('Variable_List') ?? ''),
    isInteractive: !/^(0|)$/.test(value('interactive') ?? ''),
  };
}

function parseVariables(list: string): Map<string, string> {
  const pairs = list.split(/(?<!\\),/).map((pair) => /^([^=]+)=(.*)$/s.exec(pair.replaceAll('\\,', ',')));
  return new Map(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1] ?? '', pair[2] ?? '']])));
}
