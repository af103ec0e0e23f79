// The catalogue as an admin sees it.
import { statSync } from 'node:fs';
import type { ImageConfig, NodeConfig } from '../../node-file/config.ts';
import { imageFiles } from '../chain.ts';
import { isUnchanged, readLayer } from '../layer/backing.ts';
import { jobsOn } from './use.ts';

interface ImageRow {
  name: string;
  isDefault: boolean;
  path: string;
  format: string;
  /** Bytes of the file; undefined: it is not there. */
  bytes: number | undefined;
  /** What it stands on; undefined: a file is not there, or none of this node's. */
  backing: string[] | undefined;
  contextualisation: string;
  boot: string;
  /** `none`, `current`, or `stale`: the image is not what the layer was made on. */
  layer: 'none' | 'current' | 'stale';
  jobs: string[];
}

export function listImages(node: NodeConfig): ImageRow[] {
  return [...node.images.values()].map((image) => {
    const layer = readLayer(node.state, image.name);
    const current = layer !== undefined && isUnchanged(layer, image.path);
    return {
      name: image.name,
      isDefault: image.name === node.defaultImage,
      path: image.path,
      format: image.format,
      bytes: statSync(image.path, { throwIfNoEntry: false })?.size,
      backing: backingOf(image),
      contextualisation: image.contextualisation,
      boot: image.boot.type,
      layer: layer === undefined ? 'none' : current ? 'current' : 'stale',
      jobs: jobsOn(node.state, image),
    };
  });
}

function backingOf(image: ImageConfig): string[] | undefined {
  try {
    return imageFiles(image).slice(1);
  } catch {
    return undefined; // `image verify` says why
  }
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
      [row.path, ...(row.backing ?? ['?'])].join(' on '),
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
