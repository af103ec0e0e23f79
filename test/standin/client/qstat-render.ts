// The tables and attribute lists that qstat prints, as pure functions of what the server answered.
import { foldAttribute, formatDate, formatDuration, parseDuration } from '../common/format.ts';
import type { Pair, StatusObject } from '../common/protocol.ts';

const TIMES = new Set(['ctime', 'mtime', 'qtime', 'etime', 'start_time', 'comp_time', 'Execution_Time']);

export function attributeOf(object: StatusObject, name: string): string | undefined {
  return object.attributes.find(([other]) => other === name)?.[1];
}

/** `-f`: text dates for jobs; queues and the server keep epoch seconds. */
export function renderFull(title: string, objects: readonly StatusObject[], oneLine: boolean): string {
  return objects
    .map((object) => {
      const lines = object.attributes.map(([name, value]) => {
        const shown = title === 'Job Id' && TIMES.has(name) ? formatDate(Number(value)) : value;
        return oneLine ? `    ${name} = ${shown}` : foldAttribute(name, shown);
      });
      return `${title}: ${object.name}\n${lines.join('\n')}\n\n`;
    })
    .join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** As a real TORQUE 6.1 prints values. Control characters and bytes that are no UTF-8 stay as they are. */
const xmlValue = (text: string): string => text.replaceAll(/[&<>"']/g, (sign) => ENTITIES[sign] ?? sign);

/** One `<Job>`. What follows the first dot of a name is one element, with all its dots: `task_count.0`. An
 * element for such values stays open until the next name without a dot, whatever the names before their dots
 * (`create_full_job_xml`). */
export function renderXmlObject(tag: string, idTag: string, object: StatusObject): string {
  let text = `<${tag}><${idTag}>${xmlValue(object.name)}</${idTag}>`;
  let open = '';
  for (const [name, value] of object.attributes) {
    const dot = name.indexOf('.');
    if (dot < 0) {
      if (open !== '') text += `</${open}>`;
      open = '';
      text += `<${name}>${xmlValue(value)}</${name}>`;
      continue;
    }
    if (open === '') {
      open = name.slice(0, dot);
      text += `<${open}>`;
    }
    const leaf = name.slice(dot + 1);
    text += `<${leaf}>${leaf.startsWith('task_usage') ? taskUsage(value) : xmlValue(value)}</${leaf}>`;
  }
  return `${text}${open === '' ? '' : `</${open}>`}</${tag}>`;
}

/** `cpu_list=0-1,host=vm`: each of these is an element (`print_req_information`). */
function taskUsage(value: string): string {
  return value
    .split(',')
    .map((pair) => pair.split('='))
    .map(([name, text = '']) => `<${name}>${xmlValue(text)}</${name}>`)
    .join('');
}

export function renderXml(jobs: readonly StatusObject[]): string {
  return `<?xml version="1.0"?>\n<Data>${jobs.map((job) => renderXmlObject('Job', 'Job_Id', job)).join('')}</Data>\n`;
}

function user(job: StatusObject): string {
  return (attributeOf(job, 'Job_Owner') ?? '').replace(/@.*$/, '');
}

/** The plain table; the heading is left out when `-t` lists the elements of arrays. */
export function renderDefault(jobs: readonly StatusObject[]): string {
  if (jobs.length === 0) return '';
  const heading =
    'Job ID                    Name             User            Time Use S Queue\n' +
    '------------------------- ---------------- --------------- -------- - -----\n';
  return heading + jobs.map(defaultRow).join('');
}

function defaultRow(job: StatusObject): string {
  const name = attributeOf(job, 'Job_Name') ?? '';
  const shown = name.length > 16 ? `...${name.slice(-13)}` : name;
  return (
    `${job.name.padEnd(26)} ${shown.padEnd(16)} ${user(job).slice(0, 15).padEnd(15)} ` +
    `${(attributeOf(job, 'resources_used.cput') ?? '0').padStart(8)} ${attributeOf(job, 'job_state')} ` +
    `${(attributeOf(job, 'queue') ?? '').padEnd(15)}\n`
  );
}

/** `-a`, with `-n -1` the nodes at the end of each line, with `-n` alone on a line of their own. */
export function renderAlternate(
  server: string,
  jobs: readonly StatusObject[],
  nodes: 'no' | 'same' | 'own',
): string {
  if (jobs.length === 0) return '';
  const heading = `
${server}: 
                                                                                  Req'd       Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory      Time    S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ --------- --------- - ---------
`;
  const rows = jobs.map((job) => {
    const host = attributeOf(job, 'exec_host') ?? ' -- ';
    const tail = nodes === 'no' ? '' : nodes === 'same' ? `   ${host}` : `\n   ${host}`;
    return `${alternateRow(job)}${tail}\n`;
  });
  return heading + rows.join('');
}

function alternateRow(job: StatusObject): string {
  const nodes = attributeOf(job, 'Resource_List.nodes') ?? '1';
  const tasks = nodes.split('+').reduce((sum, part) => {
    const count = Number(/^\d+/.exec(part)?.[0] ?? '1');
    return sum + count * Number(/ppn=(\d+)/.exec(part)?.[1] ?? '1');
  }, 0);
  const state = attributeOf(job, 'job_state') ?? '';
  const limit = attributeOf(job, 'Resource_List.cput') ?? attributeOf(job, 'Resource_List.walltime') ?? '-- ';
  const cput = parseDuration(attributeOf(job, 'resources_used.cput') ?? '');
  const used =
    attributeOf(job, 'Resource_List.cput') === undefined
      ? parseDuration(attributeOf(job, 'resources_used.walltime') ?? '')
      : cput;
  const elapsed = state === 'R' && used !== undefined ? formatDuration(used) : '      -- ';
  const cut = (text: string, width: number): string => text.slice(0, width).padEnd(width);
  const session = attributeOf(job, 'session_id');
  return [
    cut(job.name, 23),
    cut(user(job), 11),
    cut(attributeOf(job, 'queue') ?? '', 8),
    cut(attributeOf(job, 'Job_Name') ?? '', 16),
    session === undefined ? '   -- ' : session.padStart(6),
    (attributeOf(job, 'Resource_List.nodect') ?? '--').padStart(5),
    String(tasks).padStart(6),
    (attributeOf(job, 'Resource_List.mem') ?? '-- ').padStart(9),
    limit.padStart(9),
    state,
    elapsed.padStart(9),
  ].join(' ');
}

type Counts = Record<'Transit' | 'Queued' | 'Held' | 'Waiting' | 'Running' | 'Exiting' | 'Complete', number>;

export function stateCounts(object: StatusObject): Counts {
  const counts: Counts = { Transit: 0, Queued: 0, Held: 0, Waiting: 0, Running: 0, Exiting: 0, Complete: 0 };
  for (const match of (attributeOf(object, 'state_count') ?? '').matchAll(/(\w+):(\d+)/g)) {
    const name = match[1] ?? '';
    if (name in counts) counts[name as keyof Counts] = Number(match[2]);
  }
  return counts;
}

const cell = (value: number | string): string => String(value).padStart(5);

/** `-Q` */
export function renderQueues(queues: readonly StatusObject[]): string {
  if (queues.length === 0) return '';
  const heading =
    'Queue              Max    Tot   Ena   Str   Que   Run   Hld   Wat   Trn   Ext T   Cpt\n' +
    '----------------   ---   ----    --    --   ---   ---   ---   ---   ---   --- -   ---\n';
  const rows = queues.map((queue) => {
    const count = stateCounts(queue);
    const yes = (name: string): string => (attributeOf(queue, name) === 'True' ? 'yes' : 'no');
    const max = attributeOf(queue, 'max_running') ?? '0';
    return (
      `${queue.name.slice(0, 16).padEnd(16)} ${cell(max)} ${(attributeOf(queue, 'total_jobs') ?? '0').padStart(6)} ${cell(yes('enabled'))} ` +
      `${cell(yes('started'))} ${cell(count.Queued)} ${cell(count.Running)} ${cell(count.Held)} ${cell(count.Waiting)} ` +
      `${cell(count.Transit)} ${cell(count.Exiting)} E ${cell(count.Complete)}\n`
    );
  });
  return heading + rows.join('');
}

/** `-q` */
export function renderQueueLimits(server: string, queues: readonly StatusObject[]): string {
  let running = 0;
  let queued = 0;
  const rows = queues.map((queue) => {
    const count = stateCounts(queue);
    running += count.Running;
    queued += count.Queued + count.Held;
    const max = (name: string, width: number, none: string): string =>
      attributeOf(queue, `resources_max.${name}`)?.padStart(width) ?? none.padEnd(width);
    const state = `${attributeOf(queue, 'enabled') === 'True' ? 'E' : 'D'} ${attributeOf(queue, 'started') === 'True' ? 'R' : 'S'}`;
    return (
      `${queue.name.slice(0, 16).padEnd(16)} ${max('mem', 6, '  --')} ${max('cput', 8, '   --')} ` +
      `${max('walltime', 8, '   --')} ${max('nodect', 4, '  --')}${String(count.Running).padStart(5)} ` +
      `${String(count.Queued + count.Held).padStart(3)} ${(attributeOf(queue, 'max_running') ?? '--').padEnd(2)}   ${state}\n`
    );
  });
  return (
    `\nserver: ${server}\n\n` +
    'Queue            Memory CPU Time Walltime Node  Run Que Lm  State\n' +
    '---------------- ------ -------- -------- ----  --- --- --  -----\n' +
    rows.join('') +
    `${' '.repeat(47)}----- -----\n${' '.repeat(47)}${cell(running)} ${cell(queued)}\n`
  );
}

/** `-B` */
export function renderServers(servers: readonly StatusObject[]): string {
  const heading =
    'Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext   Com Status    \n' +
    '----------------   ---   ---   ---   ---   ---   ---   ---   ---   --- ----------\n';
  const rows = servers.map((server) => {
    const count = stateCounts(server);
    return (
      `${server.name.slice(0, 16).padEnd(16)} ${cell(0)} ${cell(attributeOf(server, 'total_jobs') ?? 0)} ${cell(count.Queued)} ` +
      `${cell(count.Running)} ${cell(count.Held)} ${cell(count.Waiting)} ${cell(count.Transit)} ${cell(count.Exiting)} ` +
      `${cell(count.Complete)} ${(attributeOf(server, 'server_state') ?? '').padEnd(10)}\n`
    );
  });
  return heading + rows.join('');
}

/** Attributes of an array as one line: those of its first element under the array's own id and name. */
export function collapseArrays(jobs: readonly StatusObject[]): StatusObject[] {
  const result: StatusObject[] = [];
  const seen = new Map<string, Pair[]>();
  for (const job of jobs) {
    const match = /^(\d+\[)\d+(\].*)$/.exec(job.name);
    if (match === null) {
      result.push(job);
      continue;
    }
    const id = `${match[1]}${match[2]}`;
    const state = attributeOf(job, 'job_state') ?? 'Q';
    const present = seen.get(id);
    if (present === undefined) {
      const attributes: Pair[] = job.attributes
        .filter(([name]) => !name.startsWith('resources_used.'))
        .map(([name, value]) => [name, name === 'Job_Name' ? value.replace(/-\d+$/, '') : value]);
      seen.set(id, attributes);
      result.push({ name: id, attributes });
    } else {
      // The array is what its liveliest element is.
      const pair = present.find(([name]) => name === 'job_state');
      if (pair && 'CEHQR'.indexOf(state) > 'CEHQR'.indexOf(pair[1])) pair[1] = state;
    }
  }
  return result;
}
