// What a guest that does nothing else writes when it is ready, from what its context disk says.
import { chownSync, writeFileSync } from 'node:fs';

/** @param behaviour `fails`, `other-host-key`, or anything else for a good report
 * @returns what the guest was told, by the names of its `context.sh` */
export function writeReady(
  iso: string,
  behaviour: string,
  owner: { uid: number; gid: number },
  address: string,
): (name: string) => string {
  const value = (name: string) => new RegExp(`^VMBATCH_${name}='(.*)'$`, 'm').exec(iso)?.[1] ?? '';
  const key = Buffer.from(value('HOST_KEY'), 'base64').toString();
  const blob = Buffer.from(key.split('\n').slice(1, -2).join(''), 'base64');
  // The public half stands in the file after the magic, two empty-cipher words, no options and the count.
  const at = blob.indexOf('ssh-ed25519') - 4;
  const hostKey = `ssh-ed25519 ${blob.subarray(at, at + 51).toString('base64')}`;
  const id = { version: 1, jobId: value('JOB_ID'), nonce: value('NONCE') };
  const report =
    behaviour === 'fails'
      ? { ...id, error: 'mounting the share failed' }
      : {
          ...id,
          address,
          port: 22,
          hostKey: behaviour === 'other-host-key' ? hostKey.replace(/.{4}$/, 'AAAA') : hostKey,
          hostname: 'guest',
          kernel: '6.1.0',
          bootId: '8aede550-7ca6-4a39-9015-419db29584d0',
          vcpus: 1,
          memoryKiB: 222_608,
          system: 'a test',
          ...(behaviour === 'notes'
            ? { notes: 'repository alice.cern.ch is not mounted: \u001bno proxy' }
            : {}),
        };
  const path = value('READY_FILE');
  writeFileSync(path, JSON.stringify(report));
  chownSync(path, owner.uid, owner.gid);
  return value;
}
