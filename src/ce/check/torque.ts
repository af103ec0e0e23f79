// Checks of what a CE needs of TORQUE: its commands, the server, the queues, the nodes, the log.
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { pbsnodes } from '../../batch/torque/answers/pbsnodes.ts';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { errnoOf, toVmbatchError } from '../../util/errors.ts';
import { isAvailable, nodesOfQueue } from '../info/nodes.ts';
import { type CeSite, obstacle } from './site.ts';

const COMMANDS = ['qsub', 'qstat', 'qdel', 'pbsnodes'];
/** Seconds for which an ended job must stay visible, for a scan that asks qstat. */
const LEAST_KEPT = 60;

export const TORQUE_CHECKS: readonly Check<CeSite>[] = [
  {
    name: 'torque-commands',
    about: "TORQUE's commands are in pbs_bin_path, and mapped users can run them",
    needs: ['configuration'],
    check: checkCommands,
  },
  {
    name: 'server',
    about: 'the batch server answers',
    needs: ['configuration'],
    check: checkServer,
  },
  {
    name: 'queues',
    about: 'the default queue, and each queue with a block, exists in TORQUE, takes jobs and starts them',
    needs: ['server'],
    check: checkQueues,
  },
  {
    name: 'nodes',
    about: 'some node can run the jobs',
    needs: ['server'],
    check: checkNodes,
  },
  {
    name: 'keep-completed',
    about: `ended jobs stay visible for ${LEAST_KEPT} s, so that the scan can learn how they ended`,
    needs: ['server'],
    check: checkKeepCompleted,
  },
  {
    name: 'requeue',
    about: 'jobs whose guest cannot be started are not tried again for ever',
    needs: ['server'],
    check: async (site) =>
      isTrue((await site.server()).get('disable_automatic_requeue'))
        ? ok('disable_automatic_requeue = True: one failed start, then the job fails')
        : warning(
            'TORQUE tries a job again at once and for ever while a node fails to start its guest',
            'qmgr -c "set server disable_automatic_requeue = True" makes it one failure',
          ),
  },
  {
    name: 'server-log',
    about: 'the log of the server can be read here, which is the quick way to see jobs end',
    needs: ['configuration'],
    check: checkServerLog,
  },
];

const isTrue = (value: string | undefined) => /^true$/i.test(value ?? '');

async function checkCommands(site: CeSite): Promise<Finding[]> {
  const { pbsBinPath } = site.configuration;
  const viewer = await site.viewer();
  const missing: string[] = [];
  const findings = await Promise.all(
    COMMANDS.map(async (name): Promise<Finding | undefined> => {
      const path = join(pbsBinPath, name);
      if ((await site.run('test', ['-e', path])).exitCode !== 0) {
        missing.push(name);
        return undefined;
      }
      const why = await obstacle(viewer, path, ['-x']);
      return why === undefined
        ? undefined
        : failed(why, 'submit and cancel run as the mapped user: let everybody execute it');
    }),
  );
  const wrong = findings.flatMap((finding) => finding ?? []);
  if (missing.length > 0)
    wrong.unshift(
      failed(
        `${pbsBinPath} has no ${COMMANDS.filter((name) => missing.includes(name)).join(', no ')}`,
        "install TORQUE's commands, or set [lrms] pbs_bin_path to their folder",
      ),
    );
  return wrong.length > 0 ? wrong : [ok(`${COMMANDS.join(', ')} in ${pbsBinPath}`)];
}

async function checkServer(site: CeSite): Promise<Finding> {
  try {
    const server = await site.server();
    if (server.size === 0)
      return warning(
        'qstat -B -f says nothing of the server',
        'look what that command prints here, and in the log of the server',
      );
    return ok(`it answers, TORQUE ${server.get('pbs_version') ?? '?'}`);
  } catch (thrown) {
    const { message, hint } = toVmbatchError(thrown, 'site');
    return failed(
      message,
      hint ?? 'look whether pbs_server and trqauthd run, and whether server_name names its host',
    );
  }
}

async function checkQueues(site: CeSite): Promise<Finding[]> {
  const { defaultQueue, queues: blocks } = site.configuration;
  const names = [...new Set([...(defaultQueue === undefined ? [] : [defaultQueue]), ...blocks])];
  const queues = await site.queues();
  const findings = names.map((name): Finding => {
    const queue = queues.find((one) => one.name === name);
    if (queue === undefined)
      return failed(
        `TORQUE has no queue ${name}; it has: ${queues.map((one) => one.name).join(', ') || 'none'}`,
        `correct the name in arc.conf, or qmgr -c "create queue ${name} queue_type = execution"`,
      );
    const set = (attribute: string) => `qmgr -c "set queue ${name} ${attribute} = True"`;
    const is = (attribute: string) => isTrue(queue.attributes.get(attribute));
    if (!is('enabled')) return failed(`queue ${name} takes no jobs (enabled = False)`, set('enabled'));
    if (!is('started')) return failed(`queue ${name} starts no jobs (started = False)`, set('started'));
    return ok(`${name}: enabled, started`);
  });
  return findings.length > 0 ? findings : [skipped('arc.conf names no queue')];
}

/** The nodes that the information provider counts too. */
async function checkNodes(site: CeSite): Promise<Finding> {
  const { defaultQueue } = site.configuration;
  const queues = new Map((await site.queues()).map((queue) => [queue.name, queue]));
  const queue = queues.get(defaultQueue ?? '');
  if (queue === undefined) return skipped('needs the default queue');
  const all = await pbsnodes(site.torque);
  const nodes = nodesOfQueue(queue, queues, all, site.configuration);
  if (nodes.length === 0)
    return failed(
      `TORQUE has ${all.length} nodes, and none for queue ${defaultQueue}`,
      'add nodes, or correct [queue:NAME] pbs_queue_node and [lrms] pbs_dedicated_node_string',
    );
  const up = nodes.filter(isAvailable);
  return up.length === 0
    ? warning(
        `none of the ${nodes.length} nodes of queue ${defaultQueue} is up`,
        'pbsnodes -ln says which and why',
      )
    : ok(`${up.length} of ${nodes.length} nodes of queue ${defaultQueue} are up`);
}

async function checkKeepCompleted(site: CeSite): Promise<Finding> {
  const { defaultQueue } = site.configuration;
  const queue = (await site.queues()).find(({ name }) => name === defaultQueue);
  const ofQueue = queue?.attributes.get('keep_completed');
  const value = ofQueue ?? (await site.server()).get('keep_completed');
  const whose = ofQueue === undefined ? 'server' : `queue ${defaultQueue}`;
  if (Number(value ?? 0) >= LEAST_KEPT) return ok(`${value} s`);
  const found = `${whose}: keep_completed is ${value ?? 'not set'}, at least ${LEAST_KEPT} s are needed`;
  const advice = `qmgr -c "set ${whose} keep_completed = 300"`;
  return logOfToday(site).state === 'ok'
    ? warning(`${found} if the server's log cannot be read`, advice)
    : failed(`${found}: jobs would be gone before the scan asks for them`, advice);
}

function checkServerLog(site: CeSite): Finding {
  return logOfToday(site);
}

/** Log files are named after the day. */
function logOfToday(site: CeSite): Finding {
  const directory = site.configuration.pbsLogPath;
  const now = new Date();
  const name = (day: Date) =>
    `${day.getFullYear()}${String(day.getMonth() + 1).padStart(2, '0')}${String(day.getDate()).padStart(2, '0')}`;
  // Just after midnight nothing may have happened yet.
  const days = [name(now), name(new Date(now.getTime() - 600_000))];
  let why = '';
  for (const day of days) {
    const path = join(directory, day);
    try {
      closeSync(openSync(path, 'r'));
      return ok(path);
    } catch (error) {
      why ||= `${path}: ${errnoOf(error) === 'ENOENT' ? 'no such file' : `cannot be read (${errnoOf(error)})`}`;
    }
  }
  return warning(
    `${why}; the scan asks qstat instead, which is slower`,
    "set [lrms] pbs_log_path to the server's server_logs (mount it here if the server is another machine)",
  );
}
