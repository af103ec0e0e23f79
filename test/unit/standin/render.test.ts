import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  renderAlternate,
  renderDefault,
  renderFull,
  renderQueueLimits,
  renderQueues,
  renderServers,
  renderXml,
} from '../../standin/client/qstat-render.ts';
import type { Pair, StatusObject } from '../../standin/common/protocol.ts';
import { listing } from '../../standin/server/manage.ts';

const fixture = (name: string): string =>
  readFileSync(new URL(`../../fixtures/torque/${name}`, import.meta.url), 'utf8');

/** Jobs of a recorded `qstat -x`, in their order, with dotted names. */
function jobsOfXml(text: string): StatusObject[] {
  return [...text.matchAll(/<Job><Job_Id>(.*?)<\/Job_Id>(.*?)<\/Job>/gs)].map((job) => ({
    name: job[1] ?? '',
    attributes: [...(job[2] ?? '').matchAll(/<(\w+)>(.*?)<\/\1>/gs)].flatMap(
      ([, name = '', value = '']): Pair[] => {
        const nested = [...value.matchAll(/<(\w+)>(.*?)<\/\1>/gs)];
        if (nested.length === 0) return [[name, value]];
        return nested.map(([, leaf, inner = '']): Pair => [`${name}.${leaf}`, inner]);
      },
    ),
  }));
}

/** One object of a recorded attribute list, unfolded. */
function objectOfText(text: string, indent: RegExp): StatusObject {
  const [head = '', ...lines] = text
    .replace(/\n\t(?=\S)(?![\w.]+ = )/g, '')
    .replace(/,\n {10,}/g, ',')
    .split('\n');
  return {
    name: head.replace(/^\w+:? /, ''),
    attributes: lines
      .map((line) => indent.exec(line))
      .filter((match) => match !== null)
      .map((match): Pair => [match[1] ?? '', match[2] ?? '']),
  };
}

describe('the tables of the stand-in', () => {
  const jobs = jobsOfXml(fixture('qstat-f-x.mixed.xml'));
  const queue = objectOfText(fixture('qstat-Q-f.txt'), /^ {4}(\S+) = (.*)$/);
  const server = objectOfText(fixture('qstat-B-f.txt'), /^ {4}(\S+) = (.*)$/);

  beforeAll(() => {
    // The recordings were made in UTC.
    process.env['TZ'] = 'UTC';
  });

  it('reproduce the recorded qstat -f byte for byte, with its folds', () => {
    expect(renderFull('Job Id', jobs, false)).toBe(fixture('qstat-f.mixed.txt'));
  });

  it('reproduce the recorded qstat -f -1', () => {
    expect(renderFull('Job Id', jobs, true)).toBe(fixture('qstat-f-1.mixed.txt'));
  });

  it('reproduce the recorded XML', () => {
    expect(renderXml(jobs)).toBe(fixture('qstat-f-x.mixed.xml'));
  });

  it('write XML as TORQUE does: dots in names, an element that stays open, values as they are', () => {
    const attributes: Pair[] = [
      ['resources_used.cput', '00:00:00'],
      ['Resource_List.nodes', '1'],
      ['submit_args', 'a<b>c&d'],
      ['req_information.task_count.0', '1'],
      ['req_information.task_usage.0.task.0', 'cpu_list=0-1,host=vm'],
    ];
    expect(renderXml([{ name: '1.vm', attributes }])).toBe(
      '<?xml version="1.0"?>\n<Data><Job><Job_Id>1.vm</Job_Id><resources_used><cput>00:00:00</cput><nodes>1</nodes></resources_used>' +
        '<submit_args>a&lt;b&gt;c&amp;d</submit_args><req_information><task_count.0>1</task_count.0>' +
        '<task_usage.0.task.0><cpu_list>0-1</cpu_list><host>vm</host></task_usage.0.task.0></req_information></Job></Data>\n',
    );
  });

  it('reproduce the recorded plain table', () => {
    expect(renderDefault(jobs)).toBe(fixture('qstat.mixed.txt'));
  });

  it('reproduce the recorded alternate tables', () => {
    expect(renderAlternate('vm', jobs, 'no')).toBe(fixture('qstat-a.mixed.txt'));
    expect(renderAlternate('vm', jobs, 'same')).toBe(fixture('qstat-n-1.mixed.txt'));
  });

  it('reproduce the recorded tables of queues and of the server', () => {
    expect(renderQueues([queue])).toBe(fixture('qstat-Q.txt'));
    expect(renderQueueLimits('vm', [queue])).toBe(fixture('qstat-q.txt'));
    expect(renderServers([server])).toBe(fixture('qstat-B.txt'));
    expect(renderFull('Queue', [queue], false)).toBe(fixture('qstat-Q-f.txt'));
    expect(renderFull('Server', [server], false)).toBe(fixture('qstat-B-f.txt'));
  });

  it('reproduce the recorded qmgr lists, with the folds below the value', () => {
    const node = objectOfText(fixture('qmgr-list-node.txt'), /^\t(\S+) = (.*)$/);
    expect(listing('Node', node.name, node.attributes)).toBe(fixture('qmgr-list-node.txt'));
    const whole = objectOfText(fixture('qmgr-list-server.txt'), /^\t(\S+) = (.*)$/);
    expect(listing('Server', whole.name, whole.attributes)).toBe(fixture('qmgr-list-server.txt'));
  });
});
