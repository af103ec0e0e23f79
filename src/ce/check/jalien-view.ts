// What JAliEn reads of a CE in LDAP before it submits: the same search, and the same sums. What its own sum
// leaves out, it takes for a CE that is full: 444,444 waiting jobs.

/** JAliEn's search, below `o=glue`. */
export const jalienFilter = (vo: string) =>
  `(|(GLUE2PolicyRule=*:${vo})(objectClass=GLUE2ComputingEndpoint)(objectClass=GLUE2ComputingShare))`;

/** What it looks at of what is found. */
export const JALIEN_ATTRIBUTES = [
  'GLUE2EndpointID',
  'GLUE2EndpointURL',
  'GLUE2MappingPolicyShareForeignKey',
  'GLUE2ShareID',
  'GLUE2ComputingShareComputingEndpointForeignKey',
  'GLUE2ComputingShareRunningJobs',
  'GLUE2ComputingShareWaitingJobs',
];

export interface JalienView {
  /** Names of the shares that count. */
  shares: string[];
  running: number;
  waiting: number;
  /** Why shares of the VO do not count, in words. */
  leftOut: string[];
  /** Whether there is an endpoint with `HOST:2811` in its name for each of them, by which older versions know
   * the CE. */
  hasOldEndpoint: boolean;
}

type Entry = ReadonlyMap<string, readonly string[]>;

/** @param ldif what the search gave, each value on one line
 * @param host the CE's name, as JAliEn is told it */
export function viewOfJalien(ldif: string, host: string): JalienView {
  const entries = parseLdif(ldif);
  const urls = new Map(
    entries.flatMap((entry) => {
      const id = first(entry, 'GLUE2EndpointID');
      return id === undefined ? [] : [[id, first(entry, 'GLUE2EndpointURL')] as const];
    }),
  );
  const shares = new Map(entries.map((entry) => [first(entry, 'GLUE2ShareID'), entry]));
  const view: JalienView = { shares: [], running: 0, waiting: 0, leftOut: [], hasOldEndpoint: true };
  for (const id of entries.flatMap((entry) => first(entry, 'GLUE2MappingPolicyShareForeignKey') ?? [])) {
    const name = id.replace(/^.*:/, '');
    const share = shares.get(id);
    const endpoints = share?.get('glue2computingsharecomputingendpointforeignkey') ?? [];
    const url = endpoints.map((endpoint) => urls.get(endpoint)).find((found) => found !== undefined);
    const running = whole(first(share, 'GLUE2ComputingShareRunningJobs'));
    const waiting = whole(first(share, 'GLUE2ComputingShareWaitingJobs'));
    if (share === undefined) view.leftOut.push(`${name} is not published`);
    else if (url === undefined) view.leftOut.push(`${name} has no endpoint with an address`);
    else if (hostOf(url) !== host) view.leftOut.push(`${name} is at ${hostOf(url)}, not at ${host}`);
    else if (running === undefined || waiting === undefined)
      view.leftOut.push(`${name} has no number of running or waiting jobs`);
    else {
      view.shares.push(name);
      view.running += running;
      view.waiting += waiting;
      view.hasOldEndpoint &&= endpoints.some((endpoint) => endpoint.includes(`${host}:2811`));
    }
  }
  return view;
}

const first = (entry: Entry | undefined, name: string) => entry?.get(name.toLowerCase())?.[0];
const whole = (text: string | undefined) =>
  text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
const hostOf = (url: string) => /^[^:]*:?\/*([^:/]+)/.exec(url)?.[1] ?? url;

/** Attributes by their names in small letters. */
function parseLdif(text: string): Entry[] {
  return text.split(/\n[ \t]*\n/).map((block) => {
    const entry = new Map<string, string[]>();
    for (const line of block.split('\n')) {
      const match = /^([A-Za-z][\w;-]*)(::?) ?(.*)$/.exec(line);
      if (match === null) continue;
      const [, name = '', colons, value = ''] = match;
      const decoded = colons === '::' ? Buffer.from(value, 'base64').toString('utf8') : value;
      const key = name.toLowerCase();
      entry.set(key, [...(entry.get(key) ?? []), decoded]);
    }
    return entry;
  });
}
