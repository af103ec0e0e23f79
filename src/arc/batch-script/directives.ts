// The head of a batch script: what TORQUE reads (#PBS) and what the node reads (#VMBATCH).

import { VmbatchError } from '../../util/errors.ts';
import { formatSize } from '../../util/units.ts';
import { isImageName, parseRepositories, REPOSITORIES_RULE } from '../../util/values.ts';
import type { QueueConfiguration } from '../configuration/configuration.ts';
import type { Grami } from '../grami.ts';
import { type NodeRequest, parseNodeRequest } from '../node-request.ts';
import { decodeBytes, showBytes } from '../text.ts';

const MiB = 1024 ** 2;

/** Where the job's files are carried between CE and node by TORQUE, because guests do not see the session
 * directory. */
export interface Staging {
  /** On the node, absolute: the folder of all jobs, and the job's own in it. */
  folder: string;
  directory: string;
  /** The CE, as the node's mom calls it. */
  host: string;
}

/** The lines of the head.
 *
 * Mirrors ARC's pbs backend: `.comment` as the job's output, name rule, priority 0 to 100 as -1024 to 1023,
 * `cput`, `walltime` from it if alone, `mem` in total, node properties of the queue and of runtime
 * environments, an exclusive node by asking for all of `nodememory`. Unlike it, slots without `countpernode`
 * are asked for on one node, since a guest lives on one.
 * @param queue undefined: the server's default
 * @param staging undefined: guests see the session directory
 * @param ce the machine that arc.conf is on
 * @throws VmbatchError `job` for what the job may not have here or cannot have anywhere, naming limit and
 * choice; `site` for paths and names that TORQUE cannot be given */
export function scriptHead(
  grami: Grami,
  queue: string | undefined,
  limits: QueueConfiguration,
  staging: Staging | undefined,
  ce: string,
): string[] {
  // Whoever refuses the image is to blame who chose it: the node looks for this remark.
  const chooser =
    grami.image === undefined && limits.image !== undefined
      ? [`# The image is named by arc.conf of ${ce}`]
      : [];
  return [
    ...torqueDirectives(grami, queue, limits, staging),
    ...chooser,
    guestRequest(grami, limits, staging),
  ];
}

function torqueDirectives(
  grami: Grami,
  queue: string | undefined,
  limits: QueueConfiguration,
  staging: Staging | undefined,
): string[] {
  const { nodes } = slotsOf(grami);
  const { slots, properties } = nodeRequest(grami, limits);
  // As in ARC: a limit on CPU time alone is one on wall-clock time too.
  const wallTime = grami.wallTime ?? grami.cpuTime;
  const memory = totalMemory(grami, limits);
  return [
    `#PBS -N ${torqueJobName(grami.jobName)}`,
    ...(queue === undefined ? [] : [`#PBS -q ${queueName(queue)}`]),
    ...(grami.priority === undefined ? [] : [`#PBS -p ${torquePriority(grami.priority)}`]),
    ...(grami.project === undefined ? [] : [`#PBS -A ${account(grami.project)}`]),
    ...(grami.startTime === undefined ? [] : [`#PBS -a ${torqueTime(grami.startTime)}`]),
    '#PBS -r n',
    '#PBS -m n',
    `#PBS -e ${directivePath(`${grami.sessionDirectory}.comment`)}`,
    '#PBS -j eo',
    `#PBS -l nodes=${[nodes, `ppn=${slots}`, ...properties].join(':')}`,
    ...(grami.cpuTime === undefined ? [] : [`#PBS -l cput=${hours(grami.cpuTime)}`]),
    ...(wallTime === undefined ? [] : [`#PBS -l walltime=${hours(wallTime)}`]),
    ...(memory === undefined ? [] : [`#PBS -l mem=${memory}mb`]),
    ...(staging === undefined ? [] : stagingDirectives(grami, staging)),
  ];
}

/** What each node of the job must have. The queue and runtime environments may ask for slots, too: then the
 * job gets as many if it does not ask for more, and its guest has that many CPUs. */
function nodeRequest(grami: Grami, limits: QueueConfiguration): NodeRequest & { slots: number } {
  const further = grami.nodeProperties.map(parseNodeProperty);
  const { slots } = slotsOf(grami);
  return {
    slots: Math.max(slots, limits.slotsPerNode ?? 1, ...further.map((request) => request.slots ?? 1)),
    properties: [...limits.nodeProperties, ...further.flatMap((request) => request.properties)],
  };
}

/** As ARC asks for it: the session directory goes to the folder and comes back, and so does `.diag`. */
function stagingDirectives(grami: Grami, { folder, directory, host }: Staging): string[] {
  const session = plainPath(grami.sessionDirectory);
  const above = session.slice(0, session.lastIndexOf('/')) || '/';
  plainPath(directory);
  return [
    `#PBS -W stagein=${folder}@${host}:${session}`,
    `#PBS -W stageout="${directory}@${host}:${above},${directory}.diag@${host}:${session}.diag"`,
  ];
}

/** MB for all slots. An exclusive node is asked for as in ARC: by its memory. */
function totalMemory(grami: Grami, limits: QueueConfiguration): number | undefined {
  const perSlot = memoryPerSlot(grami, limits);
  const asked = perSlot === undefined ? undefined : perSlot * grami.count;
  if (!grami.exclusiveNode || limits.nodeMemory === undefined) return asked;
  return Math.max(asked ?? 0, limits.nodeMemory * slotsOf(grami).nodes);
}

const memoryPerSlot = (grami: Grami, limits: QueueConfiguration) =>
  grami.memory === undefined || grami.memory === 0 ? limits.defaultMemory : grami.memory;

/** The `#VMBATCH` line: virtual CPUs and memory of a guest from its slots; image and repositories of the
 * queue or the job's. */
function guestRequest(grami: Grami, limits: QueueConfiguration, staging: Staging | undefined): string {
  const { slots } = nodeRequest(grami, limits);
  // The memory that the job asks for is for the slots that it asks for.
  const { slots: ownSlots } = slotsOf(grami);
  const image = grami.image === undefined ? limits.image : chosenImage(grami.image, limits);
  const repositories =
    grami.repositories === undefined ? limits.repositories : chosenRepositories(grami.repositories);
  const perSlot = memoryPerSlot(grami, limits);
  const memory =
    perSlot === undefined ? undefined : perSlot * ownSlots + Math.ceil(limits.memoryOverheadBytes / MiB);
  if (limits.maxVcpus !== undefined && ownSlots <= limits.maxVcpus && slots > limits.maxVcpus)
    throw new VmbatchError({
      fault: 'site',
      code: 'limit-contradicted',
      message: `pbs_queue_node of the queue, or a runtime environment, asks for ppn=${slots}, and a guest may have max_vcpus=${limits.maxVcpus}`,
      hint: 'correct one of them',
    });
  if (limits.maxVcpus !== undefined && slots > limits.maxVcpus)
    throw limitExceeded(
      `the job asks for ${slots} slots on a node, and its guest may have ${limits.maxVcpus} virtual CPUs`,
      `max_vcpus=${limits.maxVcpus}`,
    );
  if (limits.maxMemoryBytes !== undefined && memory !== undefined && memory * MiB > limits.maxMemoryBytes)
    throw limitExceeded(
      `the job needs a guest of ${formatSize(memory * MiB)} (${ownSlots} × ${perSlot} MB, and ${formatSize(limits.memoryOverheadBytes)} for the guest itself), and it may have ${formatSize(limits.maxMemoryBytes)}`,
      `max_memory=${formatSize(limits.maxMemoryBytes)}`,
    );
  return [
    '#VMBATCH',
    ...(image === undefined ? [] : [`image=${image}`]),
    `vcpus=${slots}`,
    ...(memory === undefined ? [] : [`memory=${Math.max(memory, 64)}MiB`]),
    ...(repositories.length === 0 ? [] : [`repositories=${repositories.join(',')}`]),
    ...(staging === undefined ? [] : [`stage=${staging.directory}`]),
  ].join(' ');
}

/** The image of the job's guest, for `wninstance`: what it asks for, else the queue's. */
export const imageOf = (grami: Grami, limits: QueueConfiguration) => grami.image ?? limits.image;

function chosenImage(image: string, { images }: QueueConfiguration): string {
  if (isImageName(image) && images.includes(image)) return image;
  throw new VmbatchError({
    fault: 'job',
    code: 'image-not-allowed',
    message: `the job asks for the image ${showBytes(image)}; ${images.length === 0 ? 'its queue has none to choose from' : `its queue has: ${images.join(', ')}`}`,
    hint: 'name one of these with ENV/VMBATCH, or leave the choice to the queue',
  });
}

function chosenRepositories(text: string): string[] {
  const repositories = parseRepositories(text);
  if (repositories !== undefined) return repositories;
  throw new VmbatchError({
    fault: 'job',
    code: 'repositories-invalid',
    message: `the job asks for the repositories ${showBytes(text)}, allowed: ${REPOSITORIES_RULE}`,
  });
}

const limitExceeded = (what: string, option: string) =>
  new VmbatchError({
    fault: 'job',
    code: 'limit-exceeded',
    message: `${what} (${option} of its queue)`,
    hint: 'ask for less, or for another queue',
  });

/** What the job asks for: slots on each node, and nodes. */
export function slotsOf(grami: Grami): { slots: number; nodes: number } {
  if (grami.count === 1 || grami.countPerNode === undefined) return { slots: grami.count, nodes: 1 };
  return { slots: grami.countPerNode, nodes: grami.nodes ?? Math.ceil(grami.count / grami.countPerNode) };
}

/** The rule of ARC's pbs backend: a letter first, letters and digits only, at most 15. */
export function torqueJobName(jobName: string | undefined): string {
  const name = decodeBytes(jobName ?? '').replaceAll(/[^A-Za-z0-9]/gu, '_');
  if (name === '') return 'vmbatch';
  return (/^[A-Za-z]/.test(name) ? name : `N${name}`).slice(0, 15);
}

/** ARC's 0 to 100 on TORQUE's scale of -1024 to 1023, in whole numbers as ARC's pbs backend reckons it. */
function torquePriority(priority: number): number {
  return Math.floor((Math.min(priority, 100) * 2047) / 100) - 1024;
}

/** `CCYYMMDDhhmm.SS` in local time, which is what `qsub -a` takes. A-REX writes `YYYYMMDDHHMMSSZ`; ISO 8601
 * is read too. */
function torqueTime(startTime: string): string {
  const match = /^(\d{4})-?(\d\d)-?(\d\d)[T ]?(\d\d):?(\d\d):?(\d\d)(Z?)$/.exec(startTime.trim());
  if (match !== null) {
    const [, year = '', month = '', day = '', hour = '', minute = '', second = '', zone] = match;
    // Without a zone it is a place's own time; only A-REX's first form never means that.
    const utc = zone === 'Z' || !startTime.includes('-');
    const time = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}${utc ? 'Z' : ''}`);
    const two = (number: number) => String(number).padStart(2, '0');
    if (!Number.isNaN(time.getTime()))
      return `${time.getFullYear()}${two(time.getMonth() + 1)}${two(time.getDate())}${two(time.getHours())}${two(time.getMinutes())}.${two(time.getSeconds())}`;
  }
  throw new VmbatchError({
    fault: 'job',
    code: 'start-time-refused',
    message: `the job's start time ${showBytes(startTime)} is none; allowed: YYYYMMDDHHMMSSZ or YYYY-MM-DDTHH:MM:SSZ`,
  });
}

/** TORQUE's account: one word, or several in quotes. */
function account(project: string): string {
  if (/^[A-Za-z0-9_.@/+:=,~-]{1,200}$/.test(project)) return project;
  if (project.length <= 200 && !/['"\\]|\p{Cc}/u.test(decodeBytes(project))) return `'${project}'`;
  throw new VmbatchError({
    fault: 'job',
    code: 'project-refused',
    message: `the project ${showBytes(project)} cannot be a batch system's account: no quotes, backslashes and control characters, at most 200 characters`,
  });
}

function parseNodeProperty(property: string): NodeRequest {
  const request = parseNodeRequest(property);
  if (request !== undefined) return request;
  throw new VmbatchError({
    fault: 'site',
    code: 'node-property-refused',
    message: `found the node property ${showBytes(property)}, must be letters, digits and _ . = -, or ppn=SLOTS`,
    hint: 'a runtime environment sets joboption_nodeproperty_N: correct it',
  });
}

function queueName(queue: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(queue)) return queue;
  throw new VmbatchError({
    fault: 'site',
    code: 'queue-invalid',
    message: `queue: found ${showBytes(queue)}, must be a queue's name`,
  });
}

const PLAIN_PATH = /^[A-Za-z0-9_./+@%=,~-]+$/;

/** A path in a directive. TORQUE reads `host:path`, and knows quotes but no way to escape one. */
function directivePath(path: string): string {
  if (PLAIN_PATH.test(path)) return path;
  if (!/['"\\:\n\r\t\0]/.test(path)) return `'${path}'`;
  throw pathRefused(path, 'quotes, backslashes, colons and tabs');
}

/** A path in a list of files to stage, where commas and @ mean something. */
function plainPath(path: string): string {
  if (PLAIN_PATH.test(path) && !/[,@]/.test(path)) return path;
  throw pathRefused(path, 'anything but letters, digits and _ . / + % = ~ -');
}

const pathRefused = (path: string, without: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'path-refused',
    message: `TORQUE cannot be given the path ${showBytes(path)}`,
    hint: `use a session directory without ${without} in its name`,
  });

function hours(seconds: number): string {
  const two = (number: number) => String(number).padStart(2, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}
