import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XMLParser } from 'fast-xml-parser';
import { describe, expect, it } from 'vitest';
import {
  chooseDomainType,
  type DomainDescription,
  macAddress,
  renderDomainXml,
} from '../../../src/hypervisor/domain-xml.ts';

const DOMAIN: DomainDescription = {
  name: 'vmbatch-112.server',
  type: 'qemu',
  vcpus: 2,
  memoryBytes: 256 * 1024 * 1024,
  boot: { type: 'kernel', kernel: '/images/vmlinuz', initrd: '/images/initrd.img', commandLine: 'quiet' },
  overlay: '/state/jobs/112.server/overlay.qcow2',
  contextIso: '/state/jobs/112.server/context.iso',
  consoleLog: '/state/jobs/112.server/console.log',
  network: { mac: '52:54:00:aa:bb:cc', forwardedPort: 22_001 },
};

const VARIANTS: [string, DomainDescription][] = [
  ['qemu with a kernel of the node', DOMAIN],
  ['kvm with the boot loader of the image', { ...DOMAIN, type: 'kvm', boot: { type: 'disk' } }],
];

function validate(xml: string) {
  const folder = mkdtempSync(join(tmpdir(), 'vmbatch-xml-'));
  try {
    writeFileSync(join(folder, 'domain.xml'), xml);
    const { status, stderr } = spawnSync('virt-xml-validate', [join(folder, 'domain.xml'), 'domain'], {
      encoding: 'utf8',
    });
    return { status, stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('renderDomainXml', () => {
  it.each(VARIANTS)('gives the pinned text for %s', async (name, domain) => {
    const file = `../../golden/node/domain-${name.split(' ')[0]}.xml`;
    await expect(renderDomainXml(domain)).toMatchFileSnapshot(file);
  });

  it.each(VARIANTS)("is valid by libvirt's schema for %s", (_name, domain) => {
    expect(validate(renderDomainXml(domain))).toMatchObject({ status: 0 });
  });

  it("would be found invalid by libvirt's schema with a word of our own in it", () => {
    expect(validate(renderDomainXml(DOMAIN).replace('<acpi/>', '<nonsense/>')).status).not.toBe(0);
  });

  it('keeps what looks like XML in a path a path', () => {
    const overlay = `/state/"><evil attribute='&amp;'/>`;
    const parser = new XMLParser({ ignoreAttributes: false, attributeNamePrefix: '' });
    const parsed = parser.parse(renderDomainXml({ ...DOMAIN, overlay }));
    expect(parsed.domain.devices.disk[0].source.file).toBe(overlay);
    expect(parsed.domain.devices.disk).toHaveLength(2);
  });

  it('refuses characters that XML cannot hold', () => {
    expect(() => renderDomainXml({ ...DOMAIN, name: 'a\u0001b' })).toThrow(/XML cannot hold/);
  });
});

describe('macAddress', () => {
  it('is locally administered, the same for the same job and another for another', () => {
    expect(macAddress('112.server')).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(macAddress('112.server')).toBe(macAddress('112.server'));
    expect(macAddress('112.server')).not.toBe(macAddress('113.server'));
  });
});

describe('chooseDomainType', () => {
  it('does as the node file says', () => {
    expect([chooseDomainType('kvm'), chooseDomainType('qemu')]).toEqual(['kvm', 'qemu']);
  });
});
