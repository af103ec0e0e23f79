// Answers of TORQUE for tests of the information provider, made to measure: jobs, nodes and queues as its
// commands print them.

export interface JobAnswer {
  id: string;
  /** Default: `R`. */
  state?: string;
  /** Default: vmalice. */
  queue?: string;
  user?: string;
  /** `n1/0-1`; default for a running job: one slot of n1. */
  hosts?: string;
  /** `1:ppn=2`. */
  nodes?: string;
  /** What else is in the element. */
  more?: string;
}

/** `qstat -x` */
export function qstatAnswer(jobs: readonly JobAnswer[]): string {
  const elements = jobs.map((job) => {
    const { id, state = 'R', queue = 'vmalice', user = 'alice', nodes = '1', more = '' } = job;
    const hosts = job.hosts ?? (state === 'R' || state === 'E' || state === 'S' ? 'n1/0' : undefined);
    return `<Job><Job_Id>${id}</Job_Id><Job_Owner>${user}@localhost</Job_Owner><job_state>${state}</job_state><queue>${queue}</queue>${
      hosts === undefined ? '' : `<exec_host>${hosts}</exec_host>`
    }<Resource_List><nodes>${nodes}</nodes><walltime>01:00:00</walltime></Resource_List>${more}</Job>`;
  });
  return jobs.length === 0 ? '' : `<?xml version="1.0"?>\n<Data>${elements.join('')}</Data>\n`;
}

/** `count` jobs with ids of their own. */
export function manyJobs(count: number, first: number, job: Omit<JobAnswer, 'id'>): JobAnswer[] {
  return Array.from({ length: count }, (_, index) => ({ ...job, id: `${first + index}.vm` }));
}

export interface NodeAnswer {
  name: string;
  /** Default: `free`. */
  state?: string;
  power?: string;
  slots?: number;
  /** `0-1/67.vm`. */
  jobs?: string;
  properties?: string;
  note?: string;
}

/** `pbsnodes -x` */
export function pbsnodesAnswer(nodes: readonly NodeAnswer[]): string {
  const elements = nodes.map(
    ({ name, state = 'free', power = 'Running', slots = 4, jobs, properties, note }) =>
      `<Node><name>${name}</name><state>${state}</state><power_state>${power}</power_state><np>${slots}</np>${element(
        'properties',
        properties,
      )}${element('note', note)}${element('jobs', jobs)}<status>uname=Linux ${name} 6.1.0 #1 SMP x86_64,totmem=4194304kb,physmem=2097152kb,ncpus=2,version=6.1.2</status></Node>`,
  );
  return `<Data>${elements.join('')}</Data>\n`;
}

const element = (name: string, value: string | undefined) =>
  value === undefined ? '' : `<${name}>${value}</${name}>`;

/** `qstat -Q -f`: queues that are open, with these attributes. */
export function queuesAnswer(queues: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  return Object.entries(queues)
    .map(([name, attributes]) => {
      const all = { queue_type: 'Execution', enabled: 'True', started: 'True', ...attributes };
      return `Queue: ${name}\n${lines(all)}\n`;
    })
    .join('');
}

/** `qstat -B -f` */
export const serverAnswer = (attributes: Readonly<Record<string, string>>) =>
  `Server: vm\n${lines({ server_state: 'Active', ...attributes })}\n`;

const lines = (attributes: Readonly<Record<string, string>>) =>
  Object.entries(attributes)
    .map(([key, value]) => `    ${key} = ${value}\n`)
    .join('');
