// What is wrong in a node file, in the admin's terms: zod's issues and the cross-checks, each with key and
// remedy.
import type * as z from 'zod';
import { describeFound, IMAGE_NAME_RULE, isImageName, nearestName } from '../util/values.ts';
import { allowedKeys } from './schema.ts';
import { isAbsolutePath } from './values.ts';

export interface NodeFileProblem {
  path: readonly PropertyKey[];
  /** Whether the key itself is wrong, and not its value. */
  atKey: boolean;
  /** What was found and what is allowed, without the place. */
  text: string;
}

/** The key path as the admin writes it: `images.demo.boot.kernel`, `queues[0]`. */
export function showPath(path: readonly PropertyKey[]): string {
  let shown = '';
  for (const key of path) {
    if (typeof key === 'number') shown += `[${key}]`;
    else {
      const name = /^[A-Za-z0-9_.-]{1,64}$/.test(String(key)) ? String(key) : describeFound(String(key));
      shown += shown === '' ? name : `.${name}`;
    }
  }
  return shown;
}

/** Zod's issue as problems: its own wording never reaches the admin. */
export function translateIssue(issue: z.core.$ZodIssue, content: unknown): NodeFileProblem[] {
  const { path } = issue;
  const found = valueAt(content, path);
  const problem = (text: string, atKey = false): NodeFileProblem => ({ path, atKey, text });
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownKey([...path, key], key, allowedKeys(path)));
  if (issue.code === 'custom' && issue.params?.['whole'] === true) return [problem(issue.message)];
  const allowed = allowedFor(issue, path);
  if (found === undefined) return [problem(`is missing, required: ${allowed}`, true)];
  return [problem(`found ${describeFound(found)}, allowed: ${allowed}`)];
}

function allowedFor(issue: z.core.$ZodIssue, path: readonly PropertyKey[]): string {
  if (issue.code === 'custom') return issue.message;
  if (issue.code === 'too_small') return 'a list with at least one entry';
  if (issue.code !== 'invalid_type') return 'something else';
  if (issue.expected === 'array') return 'a list, such as [a, b]';
  const keys = allowedKeys(path);
  return keys.length === 0 ? 'a mapping of names' : `a mapping with the keys ${keys.join(', ')}`;
}

function unknownKey(path: readonly PropertyKey[], key: string, allowed: readonly string[]): NodeFileProblem {
  const nearest = nearestName(key, allowed);
  const elsewhere = nearest === undefined ? placesOf(key) : [];
  const suggested = nearest === undefined ? elsewhere.join(' or ') : nearest;
  const meant = suggested === '' ? '' : ` (did you mean ${suggested}?)`;
  return { path, atKey: true, text: `is no known key${meant}, allowed: ${allowed.join(', ')}` };
}

/** Where in the file a key belongs that stands at a wrong place. */
function placesOf(key: string): string[] {
  const top = allowedKeys([]);
  const below = top.filter((name) => allowedKeys([name]).includes(key)).map((name) => `${name}.${key}`);
  return top.includes(key) ? [key, ...below] : below;
}

/** What one key demands of another, checked on the raw content so that it is reported with all the rest. */
export function crossCheck(content: unknown): NodeFileProblem[] {
  if (!isMapping(content)) return [];
  const problems: NodeFileProblem[] = [];
  const images = content['images'];
  if (isMapping(images)) problems.push(...checkImageNames(images, content['default_image']));
  const share = content['share'];
  const sharePath = isMapping(share) ? share['path'] : undefined;
  const ready = content['ready_directory'];
  if (
    typeof ready === 'string' &&
    typeof sharePath === 'string' &&
    isAbsolutePath(ready) &&
    isAbsolutePath(sharePath) &&
    !ready.startsWith(sharePath.endsWith('/') ? sharePath : `${sharePath}/`)
  )
    problems.push({
      path: ['ready_directory'],
      atKey: false,
      text: `found ${describeFound(ready)}, allowed: a path below share.path, ${describeFound(sharePath)}, since the guest writes there`,
    });
  problems.push(...checkReadyChannel(content));
  return problems;
}

/** In the mode `started` the job starter waits for the guest: as the job's user, who may ask neither libvirt
 * nor its agent. */
function checkReadyChannel(content: Record<string, unknown>): NodeFileProblem[] {
  if (content['prologue_mode'] !== 'started') return [];
  const channel = content['ready_channel'];
  const network = isMapping(content['network']) ? content['network'] : {};
  const isAddressKnown = (network['type'] ?? 'user') === 'user' || network['addressing'] === 'static';
  if (channel !== 'agent' && (channel !== 'ssh' || isAddressKnown)) return [];
  const allowed = isAddressKnown ? 'file, ssh' : 'file';
  return [
    {
      path: ['ready_channel'],
      atKey: false,
      text: `found ${describeFound(channel)}, allowed with prologue_mode started on this network: ${allowed}`,
    },
  ];
}

function checkImageNames(images: Record<string, unknown>, chosen: unknown): NodeFileProblem[] {
  const names = Object.keys(images);
  if (names.length === 0)
    return [{ path: ['images'], atKey: true, text: 'found no image, required: at least one' }];
  const problems: NodeFileProblem[] = [];
  for (const name of names)
    if (!isImageName(name))
      problems.push({
        path: ['images', name],
        atKey: true,
        text: `found ${describeFound(name)}, allowed: ${IMAGE_NAME_RULE}`,
      });
  const path = ['default_image'];
  if (chosen === undefined && names.length > 1)
    problems.push({
      path,
      atKey: true,
      text: `is missing, required when there are several images: one of ${names.join(', ')}`,
    });
  if (chosen !== undefined && !(typeof chosen === 'string' && names.includes(chosen)))
    problems.push({
      path,
      atKey: false,
      text: `found ${describeFound(chosen)}, allowed: ${names.join(', ')}`,
    });
  return problems;
}

function valueAt(content: unknown, path: readonly PropertyKey[]): unknown {
  let value = content;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
