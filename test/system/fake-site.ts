// A one-node site with fake guests for the tests of one file.
import { afterAll, beforeAll, expect } from 'vitest';
import { type Site, startSite } from '../site/site.ts';

/** Starts the site before the tests and stops it after them; nothing may then have had to be ended by force.
 * @param name of its directory; another for each file
 * @returns the site, once it is started */
export function useFakeSite(name: string): () => Site {
  let site: Site | undefined;
  beforeAll(async () => {
    site = await startSite({
      directory: `/var/tmp/vmbatch-${name}-${process.pid}`,
      account: 'vmbatch-test',
      dist: new URL('../../dist', import.meta.url).pathname,
      onStage: () => undefined,
      guests: 'fake',
    });
  }, 120_000);
  afterAll(async () => {
    expect(await site?.stop()).toEqual([]);
  }, 60_000);
  return () => {
    if (site === undefined) throw new Error('the site was not started');
    return site;
  };
}
