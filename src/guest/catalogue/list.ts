// The catalogue as an admin sees it.
import { statSync } from 'node:fs';
import type { NodeConfig } from '../../config/node-config.ts';
import { isUnchanged, readLayer } from '../layer/backing.ts';
import { jobsOn } from './use.ts';

interface ImageRow {
  name: string;
  isDefault: boolean;
  path: string;
  format: string;
  /** Bytes of the file; undefined: it is not there. */
  bytes: number | undefined;
  contextualisation: string;
  boot: string;
  /** `none`, `current`, or `stale`: the image is not what the layer was made on. */
  layer: 'none' | 'current' | 'stale';
  jobs: string[];
}

export function listImages(node: NodeConfig): ImageRow[] {
  return [...node.images.values()].map((image) => {
    const layer = readLayer(node.state, image.name);
    const current = layer !== undefined && isUnchanged(layer.base, image.path);
    return {
      name: image.name,
      isDefault: image.name === node.defaultImage,
      path: image.path,
      format: image.format,
      bytes: statSync(image.path, { throwIfNoEntry: false })?.size,
      contextualisation: image.contextualisation,
      boot: image.boot.type,
      layer: layer === undefined ? 'none' : current ? 'current' : 'stale',
      jobs: jobsOn(node.state, image),
    };
  });
}

export function asTable(rows: readonly ImageRow[]): string {
  const lines = [
    ['NAME', 'FORMAT', 'SIZE', 'BOOT', 'CONTEXT', 'LAYER', 'JOBS', 'PATH'],
    ...rows.map((row) => [
      row.isDefault ? `${row.name} *` : row.name,
      row.format,
      row.bytes === undefined ? 'absent' : `${Math.ceil(row.bytes / 1024 ** 2)} MiB`,
      row.boot,
      row.contextualisation,
      row.layer,
      String(row.jobs.length),
      row.path,
    ]),
  ];
  const widths = lines[0]?.map((_cell, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, column) => cell.padEnd(widths?.[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
