// A site with prepared answers of TORQUE, and what the information provider is told about it.
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { torqueAt } from '../../../../src/batch/torque/commands.ts';
import { type Information, information } from '../../../../src/ce/info/info.ts';
import type { QueueInformation } from '../../../../src/ce/info/queues.ts';
import { parseInformationRequest } from '../../../../src/ce/info/request.ts';
import { fakeTorque } from '../fake-torque.ts';
import {
  type JobAnswer,
  type NodeAnswer,
  pbsnodesAnswer,
  qstatAnswer,
  queuesAnswer,
  serverAnswer,
} from './answers.ts';

export interface Site {
  queues?: Parameters<typeof queuesAnswer>[0];
  jobs?: JobAnswer[];
  nodes?: NodeAnswer[];
  server?: Record<string, string>;
  /** Further lines of arc.conf: [lrms] is open at first. */
  conf?: string;
  /** Default: vmalice with the user alice. */
  ask?: { queues: object; jobs: string[] };
}

/** What is said about such a site. */
export async function describeSite(site: Site): Promise<Information> {
  const torque = fakeTorque();
  try {
    torque.answer('qstat', { stdout: qstatAnswer(site.jobs ?? []) });
    torque.answer('qstat-Q', { stdout: queuesAnswer(site.queues ?? { vmalice: {} }) });
    torque.answer('qstat-B', { stdout: serverAnswer(site.server ?? {}) });
    torque.answer('pbsnodes', { stdout: pbsnodesAnswer(site.nodes ?? [{ name: 'n1' }]) });
    const configuration = parseArcConfiguration(
      `[lrms]\nlrms=vmbatch vmalice\n${site.conf ?? '[queue:vmalice]'}\n`,
      'arc.conf',
    );
    const request = site.ask ?? { queues: { vmalice: { users: ['alice'] } }, jobs: [] };
    return await information(
      torqueAt(torque.binPath),
      configuration,
      parseInformationRequest(JSON.stringify(request)),
    );
  } finally {
    torque.remove();
  }
}

/** What is said about one of its queues. */
export async function queueOf(site: Site, name = 'vmalice'): Promise<QueueInformation> {
  const queue = (await describeSite(site)).queues[name];
  if (queue === undefined) throw new Error(`nothing about ${name}`);
  return queue;
}
