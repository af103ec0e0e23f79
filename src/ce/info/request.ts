// What the information provider asks vmbatch for: the queues, users and jobs that it has to publish.
import { VmbatchError } from '../../util/errors.ts';

/** The request of VMBATCHmod.pm, from the options that CEinfo.pl gives it. */
export interface InformationRequest {
  /** Queues with the local users whose figures are wanted; `totalCpus` is what arc.conf says the queue has at
   * most. */
  queues: ReadonlyMap<string, { users: readonly string[]; totalCpus: number | undefined }>;
  /** Ids of batch jobs. Undefined: all jobs of these queues. */
  jobs: readonly string[] | undefined;
}

/** @param text `{"queues":{"NAME":{"users":["alice"],"totalcpus":"8"}},"jobs":["112.vm"]}`; all else in it is
 * ignored
 * @throws VmbatchError `site` for anything else */
export function parseInformationRequest(text: string): InformationRequest {
  let request: unknown;
  try {
    request = JSON.parse(text);
  } catch (error) {
    throw refuse(text, error);
  }
  if (!isObject(request) || !isObject(request['queues']) || !isListOfTexts(request['jobs']))
    throw refuse(text);
  const queues = Object.entries(request['queues']).map(([name, options]) => {
    const users = isObject(options) ? (options['users'] ?? []) : undefined;
    if (!isObject(options) || !isListOfTexts(users)) throw refuse(text);
    const total = Number(options['totalcpus'] ?? Number.NaN);
    return [name, { users, totalCpus: Number.isInteger(total) && total >= 0 ? total : undefined }] as const;
  });
  return { queues: new Map(queues), jobs: request['jobs'] };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isListOfTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

const refuse = (text: string, cause?: unknown) =>
  new VmbatchError({
    fault: 'site',
    code: 'information-request',
    message: `the request for information: found ${JSON.stringify(text.slice(0, 80))}, must be {"queues":{"NAME":{"users":["USER",...]},...},"jobs":["ID",...]}`,
    hint: 'VMBATCHmod.pm writes it; it must be of the same version as the vmbatch program',
    cause,
  });
