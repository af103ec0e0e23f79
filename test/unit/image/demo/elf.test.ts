import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readLinks, readModuleInfo, readSection } from '../../../../src/image/demo/elf.ts';
import { findLibraries } from '../../../../src/image/demo/libraries.ts';
import { formatModulesAlias, formatModulesDep, readModules } from '../../../../src/image/demo/modules.ts';
import { stripModule } from '../../../../src/image/demo/strip.ts';
import { VmbatchError } from '../../../../src/util/errors.ts';
import { buildElf, buildModule, buildProgram, signModule } from './elf-builder.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-elf-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function put(path: string, data: Buffer | string): void {
  mkdirSync(join(directory, path, '..'), { recursive: true });
  writeFileSync(join(directory, path), data);
}

describe('readLinks', () => {
  it('gives the libraries and the interpreter of a program', () => {
    const program = buildProgram(['libz.so.1', 'libc.so.6'], '/lib64/ld-linux-x86-64.so.2');
    expect(readLinks(program, 'p')).toEqual({
      needed: ['libz.so.1', 'libc.so.6'],
      interpreter: '/lib64/ld-linux-x86-64.so.2',
    });
  });

  it('gives nothing for a static program', () => {
    expect(readLinks(buildElf([]), 'p')).toEqual({ needed: [], interpreter: undefined });
  });

  it('reads a program of this machine', () => {
    expect(readLinks(readFileSync('/proc/self/exe'), 'node').needed).toContain('libc.so.6');
  });

  it('refuses other files with their name', () => {
    expect(() => readLinks(Buffer.from('#!/bin/sh\n'), '/x/script')).toThrow(
      '/x/script cannot be read as a program: it is no ELF file',
    );
    const small = buildElf([]);
    small.writeUInt8(1, 4);
    expect(() => readLinks(small, 'p')).toThrow('not 64-bit little-endian');
  });

  it('answers for every cut-off or damaged file with links or a VmbatchError', () => {
    const whole = buildProgram(['libc.so.6'], '/lib64/ld.so');
    fc.assert(
      fc.property(
        fc.nat(whole.length - 1),
        fc.nat(whole.length - 1),
        fc.nat(255),
        (length, position, value) => {
          const damaged = Buffer.from(whole);
          damaged[position] = value;
          for (const bytes of [damaged, whole.subarray(0, length)]) {
            try {
              readLinks(bytes, 'p');
            } catch (error) {
              expect(error).toBeInstanceOf(VmbatchError);
            }
          }
        },
      ),
    );
  });
});

describe('findLibraries', () => {
  it('follows libraries of libraries through both places where packages put them', () => {
    put('usr/bin/tool', buildProgram(['libone.so.1'], '/lib64/ld-linux-x86-64.so.2'));
    put('usr/lib/x86_64-linux-gnu/libone.so.1', buildProgram(['libtwo.so.2', 'libone.so.1']));
    put('lib/x86_64-linux-gnu/libtwo.so.2', buildProgram([]));
    put('lib/x86_64-linux-gnu/ld-linux-x86-64.so.2', buildProgram([]));
    expect([...findLibraries(directory, ['usr/bin/tool']).keys()].sort()).toEqual([
      ...['ld-linux-x86-64.so.2', 'libone.so.1', 'libtwo.so.2'],
    ]);
  });

  it('names a library that is missing and who needs it', () => {
    put('bin/tool', buildProgram(['libone.so.1']));
    put('lib/libone.so.1', buildProgram(['libgone.so.9']));
    expect(() => findLibraries(directory, ['bin/tool'])).toThrow('libone.so.1 needs libgone.so.9');
  });
});

describe('readModules', () => {
  beforeEach(() => {
    put('modules.builtin', 'kernel/crypto/crc.ko\n');
    put('kernel/a/base-bus.ko', buildModule(['name=base_bus']));
    put('kernel/b/middle.ko', buildModule(['depends=base_bus', 'alias=fs-middle', 'alias=pci:*']));
    put('kernel/c/top.ko', buildModule(['depends=middle,base-bus', 'alias=fs-top']));
  });

  it('puts what a module needs before it', () => {
    const modules = readModules(directory, ['top']);
    expect(modules.map(({ name }) => name)).toEqual(['base_bus', 'middle', 'top']);
  });

  it('leaves out what is built into the kernel', () => {
    expect(readModules(directory, ['crc'])).toEqual([]);
  });

  it('names a module that the kernel does not have and who needs it', () => {
    put('kernel/d/broken.ko', buildModule(['depends=nowhere']));
    expect(() => readModules(directory, ['broken'])).toThrow('no module nowhere, which broken needs');
  });

  it('is written as modprobe reads it, the last needed first', () => {
    const modules = readModules(directory, ['top']);
    expect(formatModulesDep(modules)).toBe(
      'kernel/a/base-bus.ko:\n' +
        'kernel/b/middle.ko: kernel/a/base-bus.ko\n' +
        'kernel/c/top.ko: kernel/b/middle.ko kernel/a/base-bus.ko\n',
    );
    expect(formatModulesAlias(modules)).toBe(
      'alias fs-middle middle\nalias pci:* middle\nalias fs-top top\n',
    );
  });
});

describe('stripModule', () => {
  const more = [
    { name: '.text', type: 1, data: Buffer.from('code of the module'), alignment: 16 },
    { name: '.BTF', type: 1, data: Buffer.alloc(5000, 1) },
    { name: '_ftrace_events', type: 1, data: Buffer.alloc(800, 2), alignment: 8 },
    { name: '.data', type: 1, data: Buffer.from('data'), alignment: 32 },
    { name: '.bss', type: 8, data: Buffer.alloc(0) },
  ];

  it('drops signature, type information and trace events, and keeps everything else', () => {
    const module = signModule(buildModule(['name=probe'], more));
    const stripped = stripModule(module, 'm');
    expect(stripped.length).toBeLessThan(module.length - 6000);
    expect(stripped.includes('~Module signature')).toBe(false);
    expect(readSection(stripped, '.BTF', 'm')).toBeUndefined();
    expect(readSection(stripped, '_ftrace_events', 'm')).toBeUndefined();
    expect(readSection(stripped, '.text', 'm')?.toString()).toBe('code of the module');
    expect(readSection(stripped, '.data', 'm')?.toString()).toBe('data');
    expect(readModuleInfo(stripped, 'm').get('name')).toEqual(['probe']);
  });

  it('keeps the number of each section, by which symbols name it, and its alignment', () => {
    const stripped = stripModule(buildModule([], more), 'm');
    const table = Number(stripped.readBigUInt64LE(0x28));
    const offsetOf = (index: number) => Number(stripped.readBigUInt64LE(table + index * 64 + 24));
    expect(stripped.readUInt16LE(0x3c)).toBe(more.length + 3);
    expect(stripped.toString('latin1', offsetOf(2), offsetOf(2) + 4)).toBe('code');
    expect(offsetOf(2) % 16).toBe(0);
    expect(stripped.toString('latin1', offsetOf(5), offsetOf(5) + 4)).toBe('data');
    expect(offsetOf(5) % 32).toBe(0);
  });
});
