// What the node file says of the demo image.
import { join } from 'node:path';
import { stringify } from 'yaml';

/** The entry of the demo image for `images:` of the node file, as YAML text.
 * @param directory where the image was built; absolute */
export function demoImageEntry(directory: string): string {
  return stringify(
    {
      images: {
        demo: {
          path: join(directory, 'template.qcow2'),
          boot: {
            kernel: join(directory, 'vmlinuz'),
            initrd: join(directory, 'initrd.img'),
            command_line: 'console=ttyS0 quiet',
          },
        },
      },
    },
    { lineWidth: 0 },
  );
}
