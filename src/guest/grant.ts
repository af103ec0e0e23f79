// The guest request: what a batch script asks for in its #VMBATCH lines, and what the node grants of it.
import type { ImageConfig, NodeConfig } from '../node-file/config.ts';
import { VmbatchError } from '../util/errors.ts';
import { formatSize, parseSize } from '../util/units.ts';
import {
  describeFound,
  GUEST_OVERHEAD_BYTES,
  IMAGE_NAME_RULE,
  isImageName,
  nearestName,
  parseRepositories,
  REPOSITORIES_RULE,
} from '../util/values.ts';

/** A value with the line that asked for it, from 1. */
interface Requested<T> {
  value: T;
  line: number;
}

/** What a batch script asks for; a key that is undefined was left to the node. */
export interface GuestRequest {
  /** The script's name, for messages. */
  where: string;
  image: Requested<string> | undefined;
  /** The CE whose arc.conf names the image, as a remark in the script says; undefined: the job chose it. */
  imageOfCe: string | undefined;
  vcpus: Requested<number> | undefined;
  memoryBytes: Requested<number> | undefined;
  /** Size of the scratch disk. */
  scratchBytes: Requested<number> | undefined;
  /** CernVM-FS repositories for the guest. */
  repositories: Requested<string[]> | undefined;
  /** The job's folder on the node, which the job starter carries into the guest and back. */
  stage: Requested<string> | undefined;
}

/** What the guest of a job gets. */
export interface ResolvedGuestRequest {
  imageName: string;
  image: ImageConfig;
  vcpus: number;
  memoryBytes: number;
  /** 0: no scratch disk. */
  scratchBytes: number;
  /** The node's, and what the job names. */
  repositories: string[];
}

interface AskedMemory {
  bytes: number;
  /** For messages: `mem=4gb`. */
  said: string;
  /** A bound on what processes may map, which is more than they use. */
  isVirtual: boolean;
}

/** What the batch system says of the job. */
export interface JobResources {
  /** Processors on this node. */
  ppn: number;
  /** Memory that it asks the batch system for, on this node. */
  memory?: AskedMemory | undefined;
  queue: string;
  /** Names of the groups of the job's user. */
  groups: readonly string[];
}

const PREFIX = '#VMBATCH';
/** As submit writes it (`src/arc/batch-script/directives.ts`). */
const CHOOSER = /^# The image is named by arc\.conf of ([A-Za-z0-9._:-]{1,255})$/;
const MAX_HEADER = 64 * 1024;
const KEYS = ['image', 'vcpus', 'memory', 'scratch', 'repositories', 'stage'] as const;
const MAX_VCPUS = 9999;
/** A guest with less never comes up, and the node would be blamed for it. */
const LEAST_MEMORY = 64 * 1024 ** 2;
/** Plain, so that it is the same word everywhere; of two folders at least: never a whole file system. */
const STAGE_RULE = 'an absolute path of at least two folders, of A-Z a-z 0-9 _ . + = ~ -, without .. in it';
const SCRATCH_RULE = 'a whole number with MiB, GiB or TiB and no blank, such as 20GiB; at least 16MiB';
/** A file system on less is mostly its own tables. */
const LEAST_SCRATCH = 16 * 1024 ** 2;
const MEMORY_RULE = 'a whole number with MiB, GiB or TiB and no blank, such as 512MiB; at least 64MiB';

/** Reads the `#VMBATCH key=value ...` lines in the header of a batch script: those before the first line that
 * is neither blank nor a comment, as qsub does with `#PBS`. The prefix begins the line; several such lines
 * add up. The text is foreign: work and messages are bounded whatever it holds.
 * @param where the script's name, for messages
 * @throws VmbatchError `job` (`request-invalid`) for an unknown or repeated key, a bad value, or a header of
 * more than 64 KiB. */
export function parseGuestRequest(scriptText: string, where: string): GuestRequest {
  const request: GuestRequest = {
    where,
    image: undefined,
    imageOfCe: undefined,
    vcpus: undefined,
    memoryBytes: undefined,
    scratchBytes: undefined,
    repositories: undefined,
    stage: undefined,
  };
  for (const { text, line } of headerLines(scriptText)) {
    if (text === undefined)
      throw invalid(where, line, 'the header of the script goes on beyond 64 KiB, allowed: at most 64 KiB');
    if (isRequestLine(text)) readLine(request, text.slice(PREFIX.length), line);
    else request.imageOfCe ??= CHOOSER.exec(text)?.[1];
  }
  return request;
}

/** The first `#VMBATCH` line in the header of a batch script, from 1; undefined if there is none. */
export function findRequestLine(scriptText: string): number | undefined {
  for (const { text, line } of headerLines(scriptText))
    if (text !== undefined && isRequestLine(text)) return line;
  return undefined;
}

/** The lines before the first that is neither blank nor a comment. A header that goes on beyond the bound
 * ends without a text. */
function* headerLines(scriptText: string): Generator<{ text: string | undefined; line: number }> {
  let line = 0;
  for (let start = 0; start < scriptText.length; ) {
    line++;
    const newline = scriptText.slice(start, start + MAX_HEADER + 1).indexOf('\n');
    const end = newline === -1 ? scriptText.length : start + newline;
    const first = firstNonBlank(scriptText, start, Math.min(end, start + MAX_HEADER));
    // Where the header ends does not depend on how long the line is that ends it.
    if (first !== undefined && first !== '#') return;
    if (end > MAX_HEADER) {
      yield { text: undefined, line };
      return;
    }
    yield { text: scriptText.slice(start, end), line };
    start = end + 1;
  }
}

/** What the node grants: the request within the image's limits, defaults for the rest. Without `vcpus=` the
 * guest has as many virtual CPUs as the job has processors (`ppn`), and at least the image's default.
 * @throws VmbatchError `job`: `image-unknown` (`site` if arc.conf names it), `image-refused` where the image
 * is not for the job's queue or groups, or `limit-exceeded` naming the limit. */
export function resolveGuestRequest(
  request: GuestRequest,
  config: Pick<NodeConfig, 'images' | 'defaultImage' | 'disk' | 'cvmfs'>,
  jobResources: JobResources,
): ResolvedGuestRequest {
  const { ppn } = jobResources;
  if (!Number.isInteger(ppn) || ppn < 1)
    throw new VmbatchError({
      fault: 'bug',
      code: 'ppn-invalid',
      message: `found ${ppn} processors for the job, allowed: a whole number from 1`,
    });
  const imageName = request.image?.value ?? config.defaultImage;
  const image = config.images.get(imageName);
  if (image === undefined) throw unknownImage(request, imageName, [...config.images.keys()]);
  refuseForeign(request, image, jobResources);
  const exceeded = (subject: string, limit: string) =>
    new VmbatchError({
      fault: 'job',
      code: 'limit-exceeded',
      message: `${subject}, allowed: at most ${limit}, the limit of image ${imageName}`,
      hint: 'ask for less, or for another image',
    });
  const vcpus = request.vcpus?.value ?? Math.max(image.vcpus.default, ppn);
  if (vcpus > image.vcpus.maximum) {
    const subject =
      request.vcpus === undefined
        ? `${request.where}: found ppn=${ppn}, which is also the number of virtual CPUs`
        : `${request.where}:${request.vcpus.line}: vcpus: found ${vcpus}`;
    throw exceeded(subject, String(image.vcpus.maximum));
  }
  const memoryBytes = chooseMemory(request, image, jobResources.memory, exceeded);
  const { scratch } = config.disk;
  const scratchBytes = request.scratchBytes?.value ?? scratch.defaultBytes;
  if (request.scratchBytes !== undefined && scratchBytes > scratch.maximumBytes)
    throw new VmbatchError({
      fault: 'job',
      code: 'limit-exceeded',
      message: `${request.where}:${request.scratchBytes.line}: scratch: found ${formatSize(scratchBytes)}, allowed: ${
        scratch.maximumBytes === 0
          ? 'nothing, this node gives no scratch disks'
          : `at most ${formatSize(scratch.maximumBytes)}`
      }`,
      hint: 'ask for less; disk.scratch of the node file has the limit',
    });
  const repositories = [...new Set([...config.cvmfs.repositories, ...(request.repositories?.value ?? [])])];
  return { imageName, image, vcpus, memoryBytes, scratchBytes, repositories };
}

/** The job's `#VMBATCH memory=`, else what it asks TORQUE for and the guest's own part, else the image's
 * default. */
function chooseMemory(
  request: GuestRequest,
  image: ImageConfig,
  asked: AskedMemory | undefined,
  exceeded: (subject: string, limit: string) => VmbatchError,
): number {
  const { defaultBytes, maximumBytes } = image.memory;
  if (request.memoryBytes !== undefined) {
    const { value, line } = request.memoryBytes;
    if (value <= maximumBytes) return value;
    throw exceeded(`${request.where}:${line}: memory: found ${formatSize(value)}`, formatSize(maximumBytes));
  }
  if (asked === undefined) return defaultBytes;
  const wanted = Math.max(defaultBytes, asked.bytes + GUEST_OVERHEAD_BYTES);
  if (wanted <= maximumBytes) return wanted;
  if (asked.isVirtual) return maximumBytes;
  const subject = `${request.where}: found ${asked.said}, which makes a guest of ${formatSize(wanted)} here`;
  throw exceeded(subject, formatSize(maximumBytes));
}

/** Images may be for some queues and some groups only. */
function refuseForeign(request: GuestRequest, image: ImageConfig, { queue, groups }: JobResources): void {
  const problem =
    image.queues !== undefined && !image.queues.includes(queue)
      ? `is not for queue ${queue}, allowed: ${image.queues.join(', ')}`
      : image.groups !== undefined && !image.groups.some((group) => groups.includes(group))
        ? `is not for the groups of this user, allowed: members of ${image.groups.join(', ')}`
        : undefined;
  if (problem === undefined) return;
  const place = request.image === undefined ? request.where : `${request.where}:${request.image.line}`;
  throw new VmbatchError({
    fault: 'job',
    code: 'image-refused',
    message: `${place}: image: ${image.name} ${problem}`,
    hint: 'ask for another image',
  });
}

/** The first character of a line that is no blank; undefined for a blank line. */
function firstNonBlank(text: string, start: number, end: number): string | undefined {
  for (let index = start; index < end; index++) {
    const character = text.charAt(index);
    if (!' \t\r\v\f'.includes(character)) return character;
  }
  return undefined;
}

function isRequestLine(text: string): boolean {
  return text.startsWith(PREFIX) && ['', ' ', '\t', '\r'].includes(text.charAt(PREFIX.length));
}

function readLine(request: GuestRequest, text: string, line: number): void {
  const { where } = request;
  const trimmed = text.endsWith('\r') ? text.slice(0, -1) : text;
  for (const word of trimmed.split(/[ \t]/)) {
    if (word === '') continue;
    const equals = word.indexOf('=');
    if (equals <= 0)
      throw invalid(where, line, `found ${describeFound(word)}, allowed: key=value with ${KEYS.join(', ')}`);
    const key = word.slice(0, equals);
    const value = word.slice(equals + 1);
    if (key === 'image') setImage(request, value, line);
    else if (key === 'vcpus') setVcpus(request, value, line);
    else if (key === 'memory') setMemory(request, value, line);
    else if (key === 'scratch') setScratch(request, value, line);
    else if (key === 'repositories') setRepositories(request, value, line);
    else if (key === 'stage') setStage(request, value, line);
    else {
      const nearest = nearestName(key, KEYS);
      const meant = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
      throw invalid(where, line, `unknown key ${describeFound(key)}${meant}, allowed: ${KEYS.join(', ')}`);
    }
  }
}

function setImage(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'image', request.image, line);
  if (!isImageName(value)) throw badValue(request, 'image', value, line, IMAGE_NAME_RULE);
  request.image = { value, line };
}

function setVcpus(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'vcpus', request.vcpus, line);
  // Nothing but digits, no leading zero: Number alone would take "1e3" and "0x10".
  if (!/^[1-9][0-9]{0,3}$/.test(value))
    throw badValue(request, 'vcpus', value, line, `a whole number from 1 to ${MAX_VCPUS}`);
  request.vcpus = { value: Number(value), line };
}

function setMemory(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'memory', request.memoryBytes, line);
  const bytes = parseSize(value);
  if (bytes === undefined || bytes < LEAST_MEMORY || value.endsWith('KiB'))
    throw badValue(request, 'memory', value, line, MEMORY_RULE);
  request.memoryBytes = { value: bytes, line };
}

function setScratch(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'scratch', request.scratchBytes, line);
  const bytes = parseSize(value);
  if (bytes === undefined || bytes < LEAST_SCRATCH || value.includes(' ') || value.endsWith('KiB'))
    throw badValue(request, 'scratch', value, line, SCRATCH_RULE);
  request.scratchBytes = { value: bytes, line };
}

function setRepositories(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'repositories', request.repositories, line);
  const repositories = parseRepositories(value);
  if (repositories === undefined) throw badValue(request, 'repositories', value, line, REPOSITORIES_RULE);
  request.repositories = { value: repositories, line };
}

function setStage(request: GuestRequest, value: string, line: number): void {
  refuseRepeated(request, 'stage', request.stage, line);
  if (!/^(\/[A-Za-z0-9_.+=~-]{1,255}){2,30}$/.test(value) || /\/\.{1,2}(\/|$)/.test(value))
    throw badValue(request, 'stage', value, line, STAGE_RULE);
  request.stage = { value, line };
}

function refuseRepeated(
  request: GuestRequest,
  key: string,
  earlier: Requested<unknown> | undefined,
  line: number,
): void {
  if (earlier !== undefined)
    throw invalid(
      request.where,
      line,
      `${key}: found again, allowed: once (it is in line ${earlier.line} already)`,
    );
}

function badValue(
  request: GuestRequest,
  key: string,
  value: string,
  line: number,
  rule: string,
): VmbatchError {
  return invalid(request.where, line, `${key}: found ${describeFound(value)}, allowed: ${rule}`);
}

function invalid(where: string, line: number, text: string): VmbatchError {
  return new VmbatchError({
    fault: 'job',
    code: 'request-invalid',
    message: `${where}:${line}: ${text}`,
    hint: 'correct the #VMBATCH lines of the batch script',
  });
}

function unknownImage(request: GuestRequest, name: string, allowed: readonly string[]): VmbatchError {
  if (request.imageOfCe !== undefined && request.image !== undefined)
    return new VmbatchError({
      fault: 'site',
      code: 'image-unknown',
      message: `the image ${describeFound(name)} is named by arc.conf of ${request.imageOfCe}, not by the job, and this node has: ${allowed.join(', ')}`,
      hint: `correct image in [custom:vmbatch] of arc.conf on ${request.imageOfCe}, or add the image to the node file`,
    });
  const place = request.image === undefined ? request.where : `${request.where}:${request.image.line}`;
  return new VmbatchError({
    fault: 'job',
    code: 'image-unknown',
    message: `${place}: image: found ${describeFound(name)}, allowed: ${allowed.join(', ')}`,
    hint: 'ask for an image that this node has',
  });
}
