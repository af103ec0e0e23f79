// What a TORQUE with thousands of jobs would say: lists of jobs, nodes and queues in its formats, and server
// logs.

/** One batch job that was made up. */
export interface BatchJob {
  /** `17.bench`. */
  id: string;
  user: string;
  state: 'Q' | 'R' | 'C';
  node: string;
  /** Slot on the node. */
  slot: number;
}

const MOMENT = 1_795_339_035;
const TEXT_TIME = 'Sun Nov 22 09:17:15 2026';
const PATHS = '/opt/torque/bin:/opt/torque/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const variables = ({ user, id }: BatchJob) =>
  `PBS_O_QUEUE=main,PBS_O_HOME=/home/${user},PBS_O_LOGNAME=${user},PBS_O_PATH=${PATHS},PBS_O_MAIL=/var/mail/${user},` +
  'PBS_O_SHELL=/bin/bash,PBS_O_LANG=C.UTF-8,PBS_O_WORKDIR=/srv/session,PBS_O_HOST=bench,PBS_O_SERVER=bench,' +
  `VMBATCH_SUBMISSION=0123456789abcdef0123456789abcdef-${id}`;

/** One `<Job>` of `qstat -x`. */
export function jobElement(job: BatchJob): string {
  const started = job.state !== 'Q';
  return [
    `<Job><Job_Id>${job.id}</Job_Id><Job_Name>bench</Job_Name><Job_Owner>${job.user}@bench</Job_Owner>`,
    started
      ? '<resources_used><cput>00:10:03</cput><energy_used>0</energy_used><mem>1006360kb</mem><vmem>2009872kb</vmem><walltime>00:12:04</walltime></resources_used>'
      : '',
    `<job_state>${job.state}</job_state><queue>main</queue><server>bench</server><Checkpoint>u</Checkpoint><ctime>${MOMENT}</ctime>`,
    '<Error_Path>bench:/srv/session/bench.comment</Error_Path>',
    started ? `<exec_host>${job.node}/${job.slot}</exec_host>` : '',
    `<Hold_Types>n</Hold_Types><Join_Path>oe</Join_Path><Keep_Files>n</Keep_Files><Mail_Points>n</Mail_Points><mtime>${MOMENT + 3}</mtime>`,
    `<Output_Path>bench:/srv/session/bench.comment</Output_Path><Priority>0</Priority><qtime>${MOMENT}</qtime><Rerunable>False</Rerunable>`,
    '<Resource_List><nodes>1:ppn=1</nodes><walltime>10:00:00</walltime><mem>2000mb</mem><nodect>1</nodect><neednodes>1:ppn=1</neednodes></Resource_List>',
    started ? '<session_id>10337</session_id>' : '',
    `<substate>${{ Q: 10, R: 42, C: 59 }[job.state]}</substate><Variable_List>${variables(job)}</Variable_List>`,
    `<euser>${job.user}</euser><egroup>${job.user}</egroup><hashname>${job.id}</hashname><queue_rank>4</queue_rank><queue_type>E</queue_type>`,
    started ? '<comment>Job started on Sun Nov 22 at 09:17</comment>' : '',
    `<etime>${MOMENT}</etime>`,
    job.state === 'C' ? '<exit_status>0</exit_status>' : '',
    '<submit_args>-N bench</submit_args>',
    started
      ? `<start_time>${MOMENT + 3}</start_time><Walltime><Remaining>34748</Remaining></Walltime><start_count>1</start_count>`
      : '',
    job.state === 'C' ? `<comp_time>${MOMENT + 727}</comp_time><total_runtime>724.2</total_runtime>` : '',
    '<fault_tolerant>False</fault_tolerant><job_radix>0</job_radix><submit_host>bench</submit_host><init_work_dir>/srv/session</init_work_dir><request_version>1</request_version></Job>',
  ].join('');
}

/** One job of `qstat -f`, long lines folded. */
export function jobText(job: BatchJob): string {
  const started = job.state !== 'Q';
  const lines = [
    'Job_Name = bench',
    `Job_Owner = ${job.user}@bench`,
    ...(started
      ? [
          'resources_used.cput = 00:10:03',
          'resources_used.energy_used = 0',
          'resources_used.mem = 1006360kb',
          'resources_used.vmem = 2009872kb',
          'resources_used.walltime = 00:12:04',
        ]
      : []),
    `job_state = ${job.state}`,
    'queue = main',
    'server = bench',
    'Checkpoint = u',
    `ctime = ${TEXT_TIME}`,
    'Error_Path = bench:/srv/session/bench.comment',
    ...(started ? [`exec_host = ${job.node}/${job.slot}`] : []),
    'Hold_Types = n',
    'Join_Path = oe',
    'Keep_Files = n',
    'Mail_Points = n',
    `mtime = ${TEXT_TIME}`,
    'Output_Path = bench:/srv/session/bench.comment',
    'Priority = 0',
    `qtime = ${TEXT_TIME}`,
    'Rerunable = False',
    'Resource_List.nodes = 1:ppn=1',
    'Resource_List.walltime = 10:00:00',
    'Resource_List.mem = 2000mb',
    'Resource_List.nodect = 1',
    'Resource_List.neednodes = 1:ppn=1',
    ...(started ? ['session_id = 10337'] : []),
    `substate = ${{ Q: 10, R: 42, C: 59 }[job.state]}`,
    `Variable_List = ${variables(job)}`,
    `euser = ${job.user}`,
    `egroup = ${job.user}`,
    `hashname = ${job.id}`,
    'queue_rank = 4',
    'queue_type = E',
    ...(started ? ['comment = Job started on Sun Nov 22 at 09:17'] : []),
    `etime = ${TEXT_TIME}`,
    'submit_args = -N bench',
    ...(started ? [`start_time = ${TEXT_TIME}`, 'Walltime.Remaining = 34748', 'start_count = 1'] : []),
    'fault_tolerant = False',
    'job_radix = 0',
    'submit_host = bench',
    'init_work_dir = /srv/session',
    'request_version = 1',
  ];
  return `Job Id: ${job.id}\n${lines.map((line) => `    ${fold(line)}\n`).join('')}\n`;
}

/** TORQUE breaks a line before its 79th character and continues it after a tab. */
function fold(line: string): string {
  const pieces = [line.slice(0, 74)];
  for (let from = 74; from < line.length; from += 70) pieces.push(line.slice(from, from + 70));
  return pieces.join('\n\t');
}

/** One line of `qstat -a`. */
export function jobRow({ id, user, state }: BatchJob): string {
  return `${id.padEnd(23)} ${user.padEnd(11)} main     bench             10337     1      1  2000mb  10:00:00 ${state}  00:12:04\n`;
}

export const ROW_HEADER = `
bench:
                                                                                  Req'd       Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory      Time    S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ --------- --------- - ---------
`;

/** `qstat -Q -f` of the one queue. */
export function queueText(queued: number, running: number): string {
  return `Queue: main
    queue_type = Execution
    total_jobs = ${queued + running}
    state_count = Transit:0 Queued:${queued} Held:0 Waiting:0 Running:${running} Exiting:0 Comp
\tlete:0
    resources_default.nodes = 1
    resources_default.walltime = 10:00:00
    mtime = ${MOMENT}
    resources_assigned.nodect = ${running}
    enabled = True
    started = True

`;
}

/** One node, for `pbsnodes -a` and for `pbsnodes -x`. */
export function nodeTexts(name: string, slots: number, jobs: readonly BatchJob[]) {
  const onNode = jobs.map(({ slot, id }) => `${slot}/${id}`).join(', ');
  const status =
    `opsys=linux,uname=Linux ${name} 6.1.0 #1 SMP x86_64,sessions=3315 6146,nsessions=2,nusers=3,idletime=121261,` +
    'totmem=263684084kb,availmem=253873208kb,physmem=263684084kb,ncpus=64,loadave=16.91,gres=,netload=297783163,' +
    `state=free,varattr= ,cpuclock=Fixed,version=6.1-dev,rectime=${MOMENT},jobs=${jobs.map(({ id }) => id).join(' ')}`;
  const state = jobs.length >= slots ? 'job-exclusive' : 'free';
  return {
    text: `${name}\n     state = ${state}\n     power_state = Running\n     np = ${slots}\n     ntype = cluster\n     jobs = ${onNode}\n     status = ${status}\n     mom_service_port = 15002\n     mom_manager_port = 15003\n\n`,
    element: `<Node><name>${name}</name><state>${state}</state><power_state>Running</power_state><np>${slots}</np><ntype>cluster</ntype><jobs>${onNode}</jobs><status>${status}</status><mom_service_port>15002</mom_service_port><mom_manager_port>15003</mom_manager_port></Node>`,
  };
}

/** The server's log line for a job's end. */
export function endLine({ id }: BatchJob, time: Date): string {
  return `${logTime(time)};16;PBS_Server.11519;Job;${id};Exit_status=0 resources_used.cput=00:10:03 resources_used.vmem=2009872kb resources_used.walltime=00:12:04 resources_used.mem=1006360kb resources_used.energy_used=0\n`;
}

/** What the server logs of a job up to its start. */
export function startLines({ id }: BatchJob, time: Date): string {
  const at = logTime(time);
  return [
    `${at};256;PBS_Server.8371;Job;${id};enqueuing into main, state 1 hop 1`,
    `${at};08;PBS_Server.8371;Job;perform_commit_work;job_id: ${id}`,
    `${at};08;PBS_Server.11519;Job;${id};Job Modified at request of root@bench`,
    `${at};08;PBS_Server.11519;Job;${id};Job Run at request of root@bench`,
    `${at};13;PBS_Server.11519;Job;${id};Not sending email: User does not want mail of this type.`,
    '',
  ].join('\n');
}

const two = (value: number) => String(value).padStart(2, '0');

function logTime(time: Date): string {
  return `${two(time.getMonth() + 1)}/${two(time.getDate())}/${time.getFullYear()} ${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

/** Name of the log of a day: `20261122`. */
export function logName(time: Date): string {
  return `${time.getFullYear()}${two(time.getMonth() + 1)}${two(time.getDate())}`;
}
