// What a runtime environment finds in the shell that runs it on the CE: it is sourced by ARC's submit script,
// and so variables and functions of that script are its interface. Same names, same values, without starting
// what ARC starts for them.
import { basename } from 'node:path';
import type { Grami } from './grami.ts';
import type { Block } from './ini.ts';
import { encodeBytes } from './text.ts';

/** `RUNTIME_*` and the other variables of ARC's job script that an RTE's stage 0 may have changed. Byte
 * strings. */
export type RuntimeVariables = ReadonlyMap<string, string>;

/** The options that ARC's pbs back-end has as `CONFIG_*`. Where several blocks have one, the last counts. */
const OPTIONS: Readonly<Record<string, readonly string[]>> = {
  common: ['enable_perflog_reporting', 'perflogdir', 'hostname'],
  arex: ['controldir', 'scratchdir', 'shared_filesystem', 'shared_scratch', 'runtimedir'],
  lrms: [
    ...['gnu_time', 'nodename', 'defaultmemory', 'benchmark', 'movetool', 'pbs_bin_path', 'pbs_log_path'],
  ],
  queue: ['defaultmemory', 'benchmark', 'pbs_queue_node', 'nodememory'],
};

/** The `CONFIG_*` variables for a job of a queue. An option that comes several times is `__array__`, and has
 * its values behind its name with `_0`, `_1`. Byte strings. */
export function configVariables(
  blocks: ReadonlyMap<string, Block>,
  queue: string | undefined,
): RuntimeVariables {
  const variables = new Map<string, string>();
  for (const [block, keys] of Object.entries(OPTIONS)) {
    const options = blocks.get(block === 'queue' ? `queue:${queue}` : block);
    for (const key of keys) {
      const values = options?.get(key)?.map(({ value }) => value) ?? [];
      const [first] = values;
      if (first === undefined) continue;
      variables.set(`CONFIG_${key}`, values.length === 1 ? first : '__array__');
      if (values.length > 1)
        for (const [index, value] of values.entries()) variables.set(`CONFIG_${key}_${index}`, value);
    }
  }
  return variables;
}

/** What else ARC's scripts have set when they come to stage 0. As there `joboption_lrms` is `pbs`, which is
 * what the batch system is.
 * @param config as `configVariables` gives them
 * @param configurationFile A-REX's `--config` file */
export function arcVariables(
  grami: Grami,
  config: RuntimeVariables,
  configurationFile: string,
): RuntimeVariables {
  const prefix = encodeBytes(process.env['ARC_LOCATION'] || '/usr');
  const own = (name: string) => config.get(`CONFIG_${name}`) ?? '';
  const perflog = own('enable_perflog_reporting') === 'expert-debug-on';
  const perflogdir = own('perflogdir') || '/var/log/arc/perfdata';
  return new Map([
    ...config,
    ...Object.entries({
      ARC_CONFIG: encodeBytes(configurationFile),
      GRAMI_FILE: encodeBytes(grami.file),
      pkgdatadir: `${prefix}/share/arc`,
      pkglibexecdir: `${prefix}/lib/arc`,
      basedir: `${prefix}/share/arc`,
      POSIX_SHELL: '/bin/sh',
      lrms_options: `gnu_time nodename defaultmemory benchmark movetool pbs_bin_path pbs_log_path`,
      queue_options: 'defaultmemory benchmark pbs_queue_node nodememory',
      CONFIG_controldir: own('controldir') || grami.controlDirectory,
      PBS_BIN_PATH: own('pbs_bin_path') || '/usr/bin',
      ...(perflog
        ? {
            perflogdir,
            perflogfile: `${perflogdir}/backends.perflog`,
            perflogfilesub: `${perflogdir}/submission.perflog`,
          }
        : {}),
      walltime_ratio: '1',
      time_hardlimit_ratio: '1/1',
      memory_hardlimit_ratio: '1/1',
      joboption_lrms: 'pbs',
    }),
  ]);
}

/** Whether ARC 7 keeps this job's files in folders of their own. A matter of each job, and told by the name
 * of its grami file. */
export const isNested = ({ file }: Grami): boolean => basename(file) === 'grami';
