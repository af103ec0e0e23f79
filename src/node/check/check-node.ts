// `vmbatch check node`: the table of what a worker node needs before a job depends on it.
import { accessSync, constants, statfsSync, statSync } from 'node:fs';
import { checkBootFiles, checkTemplateImage, checkWithQemu } from '../../guest/disk/overlay.ts';
import { clockProblem } from '../../guest/share/clock.ts';
import { checkShare, openShareGuard } from '../../guest/share/guard.ts';
import { checkMounted } from '../../guest/share/mounted.ts';
import { knownHashes } from '../../image/catalogue/verify.ts';
import { imageFiles } from '../../image/chain.ts';
import { resolveBacking } from '../../image/layer/backing.ts';
import type { ImageConfig } from '../../node-file/config.ts';
import { loadNodeConfig, type NodeConfig } from '../../node-file/read.ts';
import {
  type Check,
  type CheckResult,
  type Finding,
  failed,
  failure,
  ok,
  runChecks,
  warning,
} from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { nearestDirectory } from '../../util/files/files.ts';
import type { Run } from '../../util/processes/run.ts';
import { formatMebibytes, formatSize } from '../../util/units.ts';
import { openHypervisor } from '../environment.ts';
import { findMom, type MomPlace } from '../mom.ts';
import { foreignOwner } from '../owner/state-owner.ts';
import { directoriesRow } from './directories.ts';
import { MOM_CHECKS, type MomSite } from './mom.ts';
import { networkRow } from './network.ts';
import { previewGuest } from './preview.ts';
import { PROGRAM_CHECKS } from './programs.ts';
import { reachRow } from './reach.ts';

export interface NodeSiteOptions {
  configFile: string;
  /** The mom's `mom_priv`, if it was named. */
  momDirectory: string | undefined;
  /** Our executable. */
  vmbatch: string;
  run: Run;
}

interface NodeSite extends MomSite {
  /** Of the mom that was found, else where TORQUE has it by default. */
  momDirectory: string;
}

/** For all rows together; more than a share that hangs takes by default. */
const DEADLINE_MS = 40_000;

/** In the order in which an admin would set things up; a row stands after those that it needs. */
export const NODE_CHECKS: readonly Check<NodeSite>[] = [
  {
    name: 'node-file',
    about: 'Can the node file be read, and is everything in it allowed?',
    check({ config, configFile }) {
      const { queues, images } = config();
      return ok(`${configFile}: ${counted(queues.length, 'queue')}, ${counted(images.size, 'image')}`);
    },
  },
  directoriesRow,
  ...PROGRAM_CHECKS,
  {
    name: 'state',
    about: "Can records and disks be kept in this node's own directory, and is there room for them?",
    needs: ['node-file'],
    check({ config }) {
      const { state, disk } = config();
      const existing = nearestDirectory(state);
      const problem = whyNotKept(existing);
      if (problem !== undefined) return problem;
      const foreign = foreignOwner(state);
      if (foreign !== undefined) return failure(foreign);
      const { bavail, bsize } = statfsSync(existing);
      const free = bavail * bsize;
      if (free < disk.freeFloorBytes)
        return failed(
          `${state}: ${formatMebibytes(free)} are free, disk.free_floor is ${formatSize(disk.freeFloorBytes)}`,
          'no job starts here until there is more room, or the floor is lower',
        );
      return ok(`${state}: ${formatMebibytes(free)} are free`);
    },
  },
  {
    name: 'hypervisor',
    about: 'Does libvirt answer?',
    needs: ['node-file', 'programs'],
    async check({ config }) {
      const { hypervisor } = config();
      const domains = await openHypervisor(hypervisor.uri, 10_000).list();
      return ok(`${hypervisor.uri} answers: ${counted(domains.length, 'domain')}`);
    },
  },
  reachRow,
  {
    name: 'images',
    about: 'Are the files of each image there, of the format that they should have, with a layer that fits?',
    needs: ['node-file'],
    check({ config, run }) {
      return forEachImage(config(), async (image) => {
        checkTemplateImage(image.name, image.path, image.format);
        checkBootFiles(image.name, image.boot);
        const { state } = config();
        const { path } = resolveBacking(state, image);
        const files = imageFiles(image);
        await checkWithQemu(run, image);
        const hashes = knownHashes(state, image);
        const what = `${image.name}: ${[path, ...files.slice(1)].join(' on ')}`;
        return hashes === 'unknown'
          ? warning(`${what}; its SHA-256 is not looked at`, `vmbatch image verify ${image.name} reads it`)
          : ok(hashes === 'good' ? `${what}; SHA-256 as it should be` : what);
      });
    },
  },
  networkRow,
  {
    name: 'share',
    about: 'Is the share mounted, and does it answer?',
    needs: ['node-file'],
    async check({ config }) {
      const { share, timeouts, readyChannel, readyDirectory } = config();
      const guard = openShareGuard(share.path, timeouts.shareMs);
      try {
        await checkShare(guard, share.path, share.path);
        await checkMounted(config());
        if (readyChannel === 'file' && !(await guard.exists(readyDirectory)))
          return warning(
            `${share.path} answers; ${readyDirectory} is not there yet`,
            'the first job makes it, if root may write on the share',
          );
        // What the share has changed last cannot be in the future.
        const { ctimeMs } = statSync(readyChannel === 'file' ? readyDirectory : share.path);
        const problem = clockProblem(share.path, ctimeMs, Number.NEGATIVE_INFINITY);
        if (problem !== undefined)
          return warning(
            problem,
            'guests refuse certificates, and the reaper misjudges ages, until they agree',
          );
        return ok(`${share.path} answers`);
      } finally {
        guard.close();
      }
    },
  },
  {
    name: 'guests',
    about:
      "Could a guest of each image be made: the site's scripts, user-data and domain templates, sizes, types?",
    needs: ['node-file'],
    check({ config, configFile }) {
      return forEachImage(config(), async ({ name }) => {
        const { plan } = await previewGuest({
          ...{ script: '', configFile, queue: undefined, user: undefined, jobId: '1.check', keys: false },
          image: name,
          say: () => undefined,
        });
        return ok(`${name}: a ${plan.domain.type} guest with ${counted(plan.domain.vcpus, 'cpu')}`);
      });
    },
  },
  ...MOM_CHECKS,
];

/** Looks at everything; changes nothing. */
export function checkNode(options: NodeSiteOptions): Promise<CheckResult[]> {
  let config: NodeConfig | undefined;
  let found: MomPlace | undefined;
  const mom = () => {
    found ??= findMom(options.momDirectory);
    return found;
  };
  return runChecks(
    NODE_CHECKS,
    {
      ...options,
      node: process.execPath,
      mom,
      momDirectory: directoryOr(mom, '/var/spool/torque/mom_priv'),
      config() {
        config ??= loadNodeConfig(options.configFile);
        return config;
      },
    },
    DEADLINE_MS,
  );
}

/** A finding for each image: one that fails must not hide the others. */
async function forEachImage(
  { images }: NodeConfig,
  look: (image: ImageConfig) => Finding | Promise<Finding>,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const image of images.values())
    try {
      findings.push(await look(image));
    } catch (thrown) {
      findings.push(failure(thrown));
    }
  return findings;
}

/** Why nothing can be made in a directory, or below it. */
function whyNotKept(path: string): Finding | undefined {
  if (!statSync(path).isDirectory())
    return failed(`${path} is not a directory`, 'move it away, or correct state in the node file');
  try {
    accessSync(path, constants.W_OK);
  } catch (error) {
    return errnoOf(error) === 'EROFS'
      ? failed(
          `${path} is mounted read-only`,
          'mount it so that it can be written, or keep the state elsewhere',
        )
      : failed(`${path} cannot be written (${errnoOf(error)})`, 'records and disks of jobs are kept there');
  }
  return undefined;
}

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;

function directoryOr(mom: () => MomPlace, usual: string): string {
  try {
    return mom().directory;
  } catch {
    return usual; // the row about the mom says why
  }
}
