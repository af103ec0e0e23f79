// What CernVM's own agents read in user-data: the block of the µCernVM boot loader, and amiconfig's sections.
//
// Both put values into files that a shell sources: the boot loader all of its `key=value` lines, amiconfig's
// plugin `cernvm` the proxy and the repositories. So values are shell words.
import { shellQuote } from '../util/quote.ts';

/** What amiconfig takes for the beginning of its own, and for an option of the section (Python's
 * ConfigParser). */
export const SECTION_LINE = /^\[([^\]]+)\]/;
const OPTION_LINE = /^([^:=\s][^:=]*)\s*[:=]\s*(.*)$/;

/** The loader sources this as root: nothing that a shell would execute. */
const UCERNVM_LINE = /^[A-Za-z][A-Za-z0-9_]*=([A-Za-z0-9_@%+,./:=-]*|'[^']*'|"[^"$`\\]*")$/;

export interface CernvmSettings {
  repositories: readonly string[];
  cvmfs: {
    proxy: string | undefined;
    server: string | undefined;
    tag: string | undefined;
    organisation: string | undefined;
  };
}

/** As short as it can be: plain (the loader knows `on` and `off` only without quotes), else in double quotes,
 * which CernVM-FS takes off its settings too, else in single ones. */
function shellWord(value: string): string {
  if (/^[A-Za-z0-9_@%+,./:-]*$/.test(value)) return value;
  return /["$`\\!]/.test(value) ? shellQuote(value) : `"${value}"`;
}

/** The boot loader's block: ours first, since of two lines with one key it takes the last. It reads only the
 * first block. */
export function ucernvmBlock({ cvmfs }: CernvmSettings, siteTexts: readonly string[]): string {
  const settings: [string, string | undefined][] = [
    ['resize_rootfs', 'off'],
    ['useglideinWMS', 'off'],
    ['cvmfs_http_proxy', cvmfs.proxy],
    ['cvmfs_server', cvmfs.server],
    ['cvmfs_tag', cvmfs.tag],
  ];
  return [
    '[ucernvm-begin]',
    ...settings.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${shellWord(value)}`])),
    ...siteTexts.flatMap((text) => text.split('\n').filter((line) => !isIdle(line))),
    '[ucernvm-end]',
  ].join('\n');
}

/** amiconfig's sections, ours and the site's as one: an option of the site takes the place of ours, only
 * plugins add up. */
export function amiconfigText({ cvmfs, repositories }: CernvmSettings, siteTexts: readonly string[]): string {
  const cernvm = new Map<string, string>();
  if (cvmfs.organisation !== undefined) cernvm.set('organisations', shellWord(cvmfs.organisation));
  if (repositories.length > 0) cernvm.set('repositories', shellWord(repositories.join(',')));
  if (cvmfs.proxy !== undefined) cernvm.set('proxy', shellWord(cvmfs.proxy));
  const sections = new Map([
    ['amiconfig', new Map([['plugins', 'cernvm']])],
    ['cernvm', cernvm],
  ]);
  for (const text of siteTexts) mergeSections(sections, text);
  return [...sections]
    .map(([name, options]) =>
      [`[${name}]`, ...[...options].map(([key, value]) => `${key}=${value}`)].join('\n'),
    )
    .join('\n');
}

function mergeSections(sections: Map<string, Map<string, string>>, text: string): void {
  let section = new Map<string, string>();
  for (const line of text.split('\n')) {
    const header = SECTION_LINE.exec(line)?.[1];
    if (header !== undefined) {
      const name =
        [...sections.keys()].find((known) => known.toLowerCase() === header.toLowerCase()) ?? header;
      section = sections.get(name) ?? new Map<string, string>();
      sections.set(name, section);
      continue;
    }
    const [, key, value] = isIdle(line) ? [] : (OPTION_LINE.exec(line) ?? []);
    if (key === undefined || value === undefined) continue;
    const option = key.trim().toLowerCase();
    const plugins = `${section.get(option) ?? ''} ${value}`.trim().split(/\s+/);
    section.set(option, option === 'plugins' ? [...new Set(plugins)].join(' ') : value.trim());
  }
}

/** An empty line, or a comment. */
function isIdle(line: string): boolean {
  return line.trim() === '' || /^[#;]/.test(line);
}

/** What a site's part says that its reader would misunderstand; undefined: nothing. */
export function findCernvmProblem(type: 'ucernvm' | 'amiconfig', text: string): string | undefined {
  if (!/^[\n\t -~]*$/.test(text)) return 'holds characters that are not printable ASCII';
  let inSection = false;
  for (const [index, line] of text.split('\n').entries()) {
    if (isIdle(line)) continue;
    const at = `has in line ${index + 1} of its result ${JSON.stringify(line)}, allowed:`;
    if (type === 'ucernvm') {
      if (!UCERNVM_LINE.test(line)) return `${at} name=value, the value one shell word or in quotes`;
    } else if (SECTION_LINE.test(line)) {
      if (line.startsWith('[ucernvm-')) return `${at} that in a ucernvm part only`;
      inSection = true;
    } else if (!inSection) return `${at} a [section] first`;
    else if (!OPTION_LINE.test(line)) return `${at} name=value in the first column`;
    else if (/\s;/.test(line)) return `${at} no blank before ";", where amiconfig begins a comment`;
  }
  return undefined;
}
