import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAssignments } from '../../../src/arc/assignments.ts';
import { appendJobId, loadGrami, loadJobId, parseGrami } from '../../../src/arc/grami.ts';
import { decodeBytes, encodeBytes } from '../../../src/arc/text.ts';
import { VmbatchError } from '../../../src/util/errors.ts';
import { shellQuote } from '../../../src/util/quote.ts';

const FIXTURES = new URL('../../fixtures/arc/', import.meta.url).pathname;
const MINIMUM = `joboption_directory='/s/ID'
joboption_controldir='/c'
joboption_gridid='ID'
joboption_arg_0='/bin/true'
`;

const failure = (text: string): VmbatchError => {
  try {
    parseGrami(text, 'g');
  } catch (error) {
    if (error instanceof VmbatchError) return error;
    throw error;
  }
  throw new Error('accepted');
};

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-grami-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('loadGrami', () => {
  it("reads JAliEn's job", () => {
    const grami = loadGrami(`${FIXTURES}jalien.grami`);
    const session = '/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm';
    expect(grami).toMatchObject({
      args: ['/usr/bin/time', 'bash', 'JAliEn-1700000000000-0.sh'],
      sessionDirectory: session,
      stdin: '/dev/null',
      stdout: `${session}/std.out`,
      stderr: `${session}/std.err`,
      jobName: 'JAliEn-1700000000000-0',
      queue: 'main',
      cpuTime: undefined,
      wallTime: undefined,
      memory: undefined,
      count: 1,
      countPerNode: undefined,
      inputFiles: ['/JAliEn-1700000000000-0.sh'],
      outputFiles: ['/std.err', '/std.out', '/gmlog', '/JAliEn-1700000000000-0.sh'],
      runtimes: [],
      jobId: '8007',
    });
    expect(grami.environment.map(({ name }) => name)).toEqual([
      'ALIEN_CM_AS_LDAP_PROXY',
      'GRID_GLOBAL_JOBID',
      'GRID_GLOBAL_JOBURL',
      'GRID_GLOBAL_JOBINTERFACE',
      'GRID_GLOBAL_JOBHOST',
    ]);
    expect(grami.environment[4]).toEqual({ name: 'GRID_GLOBAL_JOBHOST', value: 'localhost' });
  });

  it('keeps quotes, dollars, backquotes, backslashes, tabs, UTF-8 and empty arguments', () => {
    const grami = loadGrami(`${FIXTURES}tricky.grami`);
    expect(grami.args.map(decodeBytes)).toEqual([
      ...[
        '/bin/echo',
        'plain',
        'two words',
        "it's",
        'double"quote',
        '$HOME',
        'back\\slash',
        'ünï–日本',
        'newline',
      ],
      ...['', '-n', '`id`', '*', 'a;b&c|d', 'tab\tx', 'trailing ', '!bang', '%d%%'],
    ]);
    expect(grami.stdin).toBe('in put.dat');
    expect(decodeBytes(grami.jobName ?? '')).toBe("tricky 'name' $x é");
    expect(grami.environment).toContainEqual({ name: 'EMPTY', value: '' });
  });

  it('reads every number and the options of runtime environments', () => {
    expect(loadGrami(`${FIXTURES}full.grami`)).toMatchObject({
      ...{ cpuTime: 7200, wallTime: 3600, memory: 2000, virtualMemory: undefined, disk: 500 },
      ...{ count: 8, countPerNode: 4, nodes: 2, exclusiveNode: true, priority: 80, successCode: 0 },
      runtimes: [
        { name: 'ENV/PROXY', options: [] },
        { name: 'ENV/CONDOR/DOCKER', options: ['opt 1', "opt'2"] },
      ],
    });
    expect(loadGrami(`${FIXTURES}full-adl.grami`)).toMatchObject({ successCode: 7, virtualMemory: 2048 });
  });

  it('names the file when there is none', () => {
    expect(() => loadGrami(join(directory, 'none'))).toThrow(
      `${directory}/none: there is no such grami file`,
    );
  });

  it('does not follow a symbolic link', () => {
    symlinkSync(`${FIXTURES}hello.grami`, join(directory, 'link'));
    expect(() => loadGrami(join(directory, 'link'))).toThrow('link: is a symbolic link');
  });
});

describe('parseGrami', () => {
  it('names all mandatory keys that are missing', () => {
    expect(failure("joboption_gridid='x'\njoboption_arg_0=\n").message).toBe(
      'g: joboption_directory, joboption_controldir, joboption_arg_0 missing or empty',
    );
  });

  it('does without a job name', () => {
    expect(parseGrami(MINIMUM, 'g').jobName).toBeUndefined();
  });

  it('takes the first job id, as A-REX does, and the last of any other key', () => {
    const grami = parseGrami(
      `${MINIMUM}joboption_jobid=1.a\njoboption_queue=x\njoboption_queue=y\njoboption_jobid=2.a\n`,
      'g',
    );
    expect(grami).toMatchObject({ jobId: '1.a', queue: 'y' });
  });

  it.each([
    ["joboption_arg_1='open\n", 'g:5: joboption_arg_1: the quote in "\'open" is not closed'],
    ['joboption_arg_1="open\n', 'g:6: joboption_arg_1: the quote in "\\"open" is not closed'],
    [
      'joboption_arg_1=$(id)\n',
      'g:5: joboption_arg_1: found "$(id)" outside quotes, which a shell would act upon',
    ],
    [
      "joboption_arg_1='a'`id`\n",
      'g:5: joboption_arg_1: found "`id`" outside quotes, which a shell would act upon',
    ],
    [
      'joboption_arg_1="x$y"\n',
      'g:5: joboption_arg_1: found "$y\\"" in double quotes, which a shell would expand',
    ],
    [
      'joboption_arg_1="`id`"\n',
      'g:5: joboption_arg_1: found "`id`\\"" in double quotes, which a shell would expand',
    ],
    ["joboption_arg_1='a' rm -rf x\n", 'g:5: joboption_arg_1: found "rm -rf x" after the value'],
    [
      'joboption_arg_1=a;id\n',
      'g:5: joboption_arg_1: found ";id" outside quotes, which a shell would act upon',
    ],
    ['joboption_arg_1=a\\\n', 'g:5: joboption_arg_1: found a backslash at the end of the line'],
    ['rm -rf /\n', 'g:5: found "rm -rf /", expected KEY=VALUE'],
    ['if true; then\n', 'g:5: found "if true; then", expected KEY=VALUE'],
    ["joboption_arg_1='a\0b'\n", 'g:5: joboption_arg_1: found a NUL byte'],
    ['joboption_count=many\n', 'g:5: joboption_count: found "many", must be a whole number or empty'],
    ["joboption_env_0='novalue'\n", 'g:5: joboption_env_0: found "novalue", must be NAME=VALUE'],
    [
      "joboption_directory='s/x'\n",
      'g:5: joboption_directory: found "s/x", must be an absolute path on one line',
    ],
    ["joboption_gridid='../x'\n", 'g:5: joboption_gridid: found "../x", must be letters and digits'],
    ["joboption_arg_2='x'\n", 'g:5: joboption_arg_2 is there, but joboption_arg_1 is not'],
  ])('refuses %j', (line, expected) => {
    const error = failure(MINIMUM + line);
    expect(error.message).toBe(expected);
    expect(error.fault).toBe('site');
  });

  it('cuts and escapes what it shows', () => {
    expect(failure(`${MINIMUM}joboption_count='\x1b[31m${'x'.repeat(500)}'\n`).message).toBe(
      `g:5: joboption_count: found "\\u001b[31m${'x'.repeat(75)}"..., must be a whole number or empty`,
    );
  });
});

describe('parseAssignments', () => {
  it('reads a value that was put together of several quotings', () => {
    expect(parseAssignments(`a=x'y z'"\\"q\\\\ \\n"\\'\n# remark\n\nb=\n`, 'g')).toEqual([
      { key: 'a', value: 'xy z"q\\ \\n\'', line: 1 },
      { key: 'b', value: '', line: 4 },
    ]);
  });

  it('keeps a newline in quotes and counts the lines on', () => {
    expect(parseAssignments("a='1\n2'\nb=3", 'g')).toEqual([
      { key: 'a', value: '1\n2', line: 1 },
      { key: 'b', value: '3', line: 3 },
    ]);
  });

  it('reads back any bytes that were quoted for a shell, as the shell does', () => {
    const bytes = fc
      .uint8Array({ min: 1, max: 255, maxLength: 60 })
      .map((array) => Buffer.from(array).toString('latin1'));
    fc.assert(
      fc.property(bytes, (value) => {
        expect(parseAssignments(`key=${shellQuote(value)}\n`, 'g')).toEqual([{ key: 'key', value, line: 1 }]);
      }),
      { numRuns: 300 },
    );
    const all = Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1)).toString('latin1');
    const file = join(directory, 'all-bytes');
    writeFileSync(file, `key=${shellQuote(all)}\n`, 'latin1');
    const sourced = execFileSync('/bin/sh', ['-c', '. "$1"; printf %s "$key"', 'sh', file]).toString(
      'latin1',
    );
    expect(parseAssignments(readFileSync(file, 'latin1'), 'g')[0]?.value).toBe(sourced);
  });

  it('stays quick on a large hostile file', () => {
    const started = performance.now();
    expect(parseAssignments(`a=${"'x'\\'".repeat(200_000)}\n`, 'g')[0]?.value.length).toBe(400_000);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('appendJobId', () => {
  it('adds a line, after a newline where the file lacks one', () => {
    const file = join(directory, 'append');
    writeFileSync(file, "joboption_gridid='x'");
    appendJobId(file, '12.server');
    expect(readFileSync(file, 'utf8')).toBe("joboption_gridid='x'\njoboption_jobid=12.server\n");
    expect(loadJobId(file)).toBe('12.server');
  });
});

describe('text', () => {
  it('turns text into bytes and back', () => {
    expect(encodeBytes('é')).toBe('\xc3\xa9');
    expect(decodeBytes(encodeBytes('日本'))).toBe('日本');
  });
});
