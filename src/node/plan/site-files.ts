// The files that an admin and this installation add to the context disk of every guest.
import { readFileSync } from 'node:fs';
import type { ContextSite } from '../../context/disk-files.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import { VmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import { writableByOthers } from '../../util/files/trusted-file.ts';
import { resourcePath } from '../../util/program/resources.ts';
import { commandLine } from '../../util/quote.ts';
import type { GuestPlan } from './plan.ts';

/** A hook is a script; what it needs besides lies on the share or in the image. */
const MAX_SCRIPT_BYTES = 1024 * 1024;

type SiteFiles = Pick<ContextSite, 'siteParts' | 'scripts' | 'service'>;

/** Reads the site's scripts, renders its user-data templates, and takes our guest service along.
 * @throws VmbatchError `node` for a script or template that is missing or wrong */
export async function loadSiteFiles(
  config: NodeConfig,
  { context }: GuestPlan,
  job: { queue: string; image: string; vcpus: number; memoryBytes: number },
): Promise<SiteFiles> {
  const { prolog, epilog, beforeJob, afterJob, templates } = config.context;
  const scripts: ContextSite['scripts'] = {};
  if (prolog !== undefined) scripts.prolog = readScript('prolog', prolog);
  if (epilog !== undefined) scripts.epilog = readScript('epilog', epilog);
  if (beforeJob !== undefined) scripts.beforeJob = readScript('before_job', beforeJob);
  if (afterJob !== undefined) scripts.afterJob = readScript('after_job', afterJob);
  return {
    scripts,
    siteParts: templates === undefined ? [] : await loadParts(config, templates, context, job),
    service: {
      guest: readFileSync(resourcePath('share/guest/vmbatch-guest')),
      udhcpcScript: readFileSync(resourcePath('share/guest/udhcpc-script')),
    },
  };
}

async function loadParts(
  config: NodeConfig,
  directory: string,
  context: GuestPlan['context'],
  job: { queue: string; image: string; vcpus: number; memoryBytes: number },
) {
  const { loadSiteParts } = await import('../../context/site-parts.ts');
  const { user, extras } = context;
  return loadSiteParts(directory, {
    jobId: context.jobId,
    user: user.name,
    uid: user.uid,
    group: user.group,
    gid: user.gid,
    hostname: context.hostname,
    queue: job.queue,
    image: job.image,
    vcpus: job.vcpus,
    memoryMiB: Math.floor(job.memoryBytes / 1024 ** 2),
    repositories: context.repositories,
    proxy: config.cvmfs.proxy ?? '',
    share: config.share.path,
    scratch: extras?.scratch ?? '',
    cache: extras?.cache?.path ?? '',
  });
}

function readScript(key: string, path: string): Buffer {
  const script = readForeignFile(path, { maxBytes: MAX_SCRIPT_BYTES }, 'node');
  const unsafe = process.geteuid?.() === 0 ? writableByOthers(path) : undefined;
  if (unsafe !== undefined)
    throw new VmbatchError({
      fault: 'node',
      code: 'file-unsafe',
      message: `context.${key}: ${unsafe}, and root of every guest runs it`,
      hint: `give it to root, and to nobody else to write: ${commandLine('chown', 'root:root', path)}; ${commandLine('chmod', 'go-w', path)}`,
    });
  if (script !== undefined) return script;
  throw new VmbatchError({
    fault: 'node',
    code: 'context-script-absent',
    message: `context.${key}: ${path} does not exist`,
    hint: 'put the script there, or take the key out of the node file',
  });
}
