// Kernel modules for the demo guest: which ones a driver needs, and the files that modprobe reads.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import { readModuleInfo } from './elf.ts';
import { stripModule } from './strip.ts';

export interface KernelModule {
  /** With underscores: `virtio_net`. */
  name: string;
  /** Below the module directory: `kernel/drivers/net/virtio_net.ko`. */
  path: string;
  /** Every module it needs, each before what needs it. */
  needs: string[];
  /** Other names under which the kernel asks for it: `fs-nfs4`. */
  aliases: string[];
  bytes: Buffer;
}

/** Reads the modules `wanted` and all that they need from an unpacked kernel package.
 * @param directory `.../lib/modules/RELEASE`
 * @returns in an order in which they can be loaded; what is built into the kernel is left out.
 * @throws VmbatchError `node` naming a module that the kernel does not have. */
export function readModules(directory: string, wanted: readonly string[]): KernelModule[] {
  const files = new Map<string, string>();
  for (const entry of readdirSync(join(directory, 'kernel'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ko')) continue;
    const path = join(entry.parentPath, entry.name);
    files.set(moduleName(path), path);
  }
  const builtinList = join(directory, 'modules.builtin');
  const builtin = new Set(
    existsSync(builtinList) ? readFileSync(builtinList, 'utf8').split('\n').map(moduleName) : [],
  );

  const loaded = new Map<string, KernelModule>();
  const load = (name: string, neededBy: string): string[] => {
    const known = loaded.get(name);
    if (known !== undefined) return [...known.needs, name];
    if (builtin.has(name)) return [];
    const path = files.get(name);
    if (path === undefined) {
      throw new VmbatchError({
        fault: 'node',
        code: 'module-missing',
        message: `the kernel in ${directory} has no module ${name}, which ${neededBy} needs`,
      });
    }
    const bytes = stripModule(readFileSync(path), path);
    const info = readModuleInfo(bytes, path);
    const depends = (info.get('depends') ?? []).flatMap((list) => list.split(',')).filter(Boolean);
    const needs = [...new Set(depends.flatMap((other) => load(other.replaceAll('-', '_'), name)))];
    loaded.set(name, {
      name,
      path: relative(directory, path),
      needs,
      aliases: info.get('alias') ?? [],
      bytes,
    });
    return [...needs, name];
  };
  for (const name of wanted) load(name.replaceAll('-', '_'), 'the demo guest');
  return [...loaded.values()];
}

/** `modules.dep` as depmod writes it: modprobe loads the needed ones from right to left. */
export function formatModulesDep(modules: readonly KernelModule[]): string {
  const paths = new Map(modules.map((module) => [module.name, module.path]));
  return modules
    .map((module) => {
      const needs = module.needs.toReversed().map((name) => paths.get(name) ?? name);
      return `${[`${module.path}:`, ...needs].join(' ')}\n`;
    })
    .join('');
}

/** `modules.alias`, by which the kernel itself asks for a module, such as for a file system's name. */
export function formatModulesAlias(modules: readonly KernelModule[]): string {
  return modules
    .flatMap((module) => module.aliases.map((alias) => `alias ${alias} ${module.name}\n`))
    .join('');
}

function moduleName(path: string): string {
  return basename(path, '.ko').replaceAll('-', '_');
}
