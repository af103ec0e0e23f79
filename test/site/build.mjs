// Builds build/site/: the demo, the soak, and the one-node site that they run on.
import { bundle } from '../tools/bundle.mjs';

await bundle('site', {
  demo: 'test/demo/main.ts',
  site: 'test/site/main.ts',
  soak: 'test/soak/main.ts',
  'fake-virsh': 'test/site/fake-guest/virsh.ts',
});
