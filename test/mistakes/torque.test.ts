// Mistakes in TORQUE, in arc.conf and on a node that a job meets first: what its owner reads, or the node's
// log.
import { chmodSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { QUEUE } from '../site/site.ts';
import { readIfThere } from '../support/files.ts';
import { endOfAGridJob, logAfterAGridJob, type SiteGround, useSite } from './site-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const look = endOfAGridJob();
/** No longer than it takes to be told once that the server does not want the job. */
const impatient = ({ arcConf }: SiteGround) =>
  arcConf('[custom:vmbatch]\n', '[custom:vmbatch]\nsubmit_patience = 1 s\n');

const ROWS: Mistake<SiteGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'the queue is not enabled',
    plant: async (ground) => {
      await ground.qmgr('set queue vmalice enabled = False');
      const patient = impatient(ground);
      return async () => {
        patient();
        await ground.qmgr('set queue vmalice enabled = True');
      };
    },
    look,
    text: /queue vmalice: the queue takes no jobs now/,
    exit: 252,
  },
  {
    mistake: 'the account is not in acl_users of the queue',
    plant: async ({ qmgr }) => {
      await qmgr('set queue vmalice acl_users = somebody');
      await qmgr('set queue vmalice acl_user_enable = True');
      return async () => {
        await qmgr('set queue vmalice acl_user_enable = False');
        await qmgr('unset queue vmalice acl_users');
      };
    },
    look,
    text: /queue vmalice: the user may not do this .*Unauthorized Request/,
    exit: 252,
  },
  {
    mistake: 'the job is for a queue that TORQUE does not have',
    plant: () => undefined,
    look: endOfAGridJob((job) => {
      const grami = readFileSync(job.file('grami'), 'utf8');
      writeFileSync(job.file('grami'), grami.replace(/joboption_queue=.*/, "joboption_queue='vmalcie'"));
    }),
    text: /queue vmalcie: there is no such queue/,
    exit: 252,
  },
  {
    mistake: 'the batch server is down',
    plant: async (ground) => {
      await ground.site.standin.killServer();
      const patient = impatient(ground);
      return async () => {
        patient();
        await ground.site.standin.startServer();
      };
    },
    look,
    text: /the batch server does not answer/,
    exit: 252,
  },
  {
    mistake: 'pbs_bin_path names a folder without qsub',
    plant: ({ arcConf }) => arcConf(/pbs_bin_path=.*/, 'pbs_bin_path=/nowhere/bin'),
    look,
    text: [/\/nowhere\/bin\/qsub/],
    exit: 252,
  },
  {
    mistake: "the session directory is not the account's to write",
    plant: () => undefined,
    look: endOfAGridJob((job) => chmodSync(job.session, 0o500)),
    text: /share\/session\/\S+ cannot be made \(EACCES\)/,
    exit: 252,
  },
  {
    mistake: 'the job asks for more memory than images may have',
    plant: () => undefined,
    look: endOfAGridJob((job) => {
      const grami = readFileSync(job.file('grami'), 'utf8');
      writeFileSync(job.file('grami'), grami.replace(/joboption_memory=.*/, 'joboption_memory=99999999'));
    }),
    text: /its guest was refused on the node: .*memory: found .*allowed: at most 64 GiB, the limit of image fake/,
    exit: -2,
  },
  {
    mistake: 'a job of plain qsub asks for an image that the node does not have',
    plant: () => undefined,
    look: async ({ site }) => {
      const script = join(site.account.home, 'plain.sh');
      writeFileSync(script, '#!/bin/sh\n#VMBATCH image=nosuch\ntrue\n', { mode: 0o755 });
      const words = ['-q', QUEUE, '-N', 'plain', script];
      const { stdout } = await site.asUser(join(site.standin.binDir, 'qsub'), words);
      const path = join(site.account.home, `plain.e${Number.parseInt(stdout, 10)}`);
      const qstat = () => site.asUser(join(site.standin.binDir, 'qstat'), ['-f', stdout.trim()]);
      const ended = /^ *exit_status = (-?\d+)$/m;
      let status = '';
      for (const deadline = performance.now() + 30_000; performance.now() < deadline; await sleep(100)) {
        status = ended.exec((await qstat()).stdout)?.[1] ?? '';
        if (status !== '') break;
      }
      return { where: 'error file of the job', text: readIfThere(path), exit: Number(status) };
    },
    text: /:2: image: found "nosuch", allowed: fake/,
    exit: -2,
  },
  {
    mistake: 'the image went for a while',
    plant: ({ site }) => {
      const image = join(site.directory, 'fake/image.qcow2');
      renameSync(image, `${image}.away`);
      // Back when a job has met it.
      const back = setInterval(() => {
        if (!readIfThere(join(site.log, 'vmbatch.log')).includes('image-absent')) return;
        clearInterval(back);
        renameSync(`${image}.away`, image);
      }, 50);
      return () => {
        clearInterval(back);
        if (statSync(image, { throwIfNoEntry: false }) === undefined) renameSync(`${image}.away`, image);
      };
    },
    look: logAfterAGridJob,
    text: /error .*image fake: .*image\.qcow2 cannot be read \(ENOENT\)/,
    exit: 0,
  },
];

mistakes('torque', useSite('torque'), ROWS);
