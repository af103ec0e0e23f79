// The step of the domain: the guest itself.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { renderDomainXml } from '../../../hypervisor/domain-xml.ts';
import { findGuestProcess, processRuns } from '../../../hypervisor/guest-process.ts';
import type { DomainType } from '../../../hypervisor/port.ts';
import type { NodeConfig } from '../../../node-file/config.ts';
import { VmbatchError } from '../../../util/errors.ts';
import { removeFile, writeFileAtomic } from '../../../util/files/files.ts';
import { openSiteTemplate, type SiteTemplate } from '../../../util/templates/site-template.ts';
import type { JobRecord } from '../../record.ts';
import type { Step } from './step.ts';
import { keepXenConsole } from './xen-console.ts';

export const domain: Step = {
  name: 'domain',
  async acquire(job) {
    const { config, record, paths, plan } = job;
    if (plan === undefined) throw new Error('the context was not planned');
    const xml = renderDomainXml(plan.domain, await siteDomainTemplate(config, plan.domain.type));
    writeFileAtomic(paths.domainXml, xml, 0o600);
    writeFileSync(paths.console, '', { mode: 0o600 });
    record.hypervisor = plan.domain.type;
    await job.hypervisor.create(paths.domainXml, job.remainingMs());
    job.guest = findGuestProcess(record.domain);
    await keepXenConsole(plan.domain, job.hypervisor, paths.console);
  },
  async release({ hypervisor, record, paths }) {
    await hypervisor.destroy(record.domain);
    // Whoever asked libvirt for it was killed before the answer: libvirt may be about to make it.
    for (let looks = 0; looks < 6 && record.steps.domain === 'acquiring' && wasKilled(record); looks++) {
      await sleep(500);
      await hypervisor.destroy(record.domain);
    }
    removeFile(paths.domainXml);
    removeFile(paths.console);
  },
};

/** The site's own template for a type of domain; undefined: it has none, ours is taken.
 * @throws VmbatchError `node` for a template that is wrong, or a directory that is not there */
export async function siteDomainTemplate(
  { hypervisor }: Pick<NodeConfig, 'hypervisor'>,
  type: DomainType,
): Promise<SiteTemplate | undefined> {
  const { templates } = hypervisor;
  if (templates === undefined) return undefined;
  if (!existsSync(templates))
    throw new VmbatchError({
      fault: 'node',
      code: 'template-missing',
      message: `hypervisor.templates: the directory ${templates} does not exist`,
      hint: 'make it, or take the key out of the node file',
    });
  const path = join(templates, `domain-${type}.xml.ejs`);
  return existsSync(path) ? openSiteTemplate(path) : undefined;
}

function wasKilled(record: JobRecord): boolean {
  return !processRuns(record.prologue);
}
