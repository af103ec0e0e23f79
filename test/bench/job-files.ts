// The files of a grid job as A-REX and the job itself write them.
import type { BatchJob } from './batch-answers.ts';

export interface GridJob extends BatchJob {
  gridId: string;
}

export const DIAG = `runtimeenvironments=APPS/BENCH-1.0;
nodename=guest
Processors=1
Benchmark=HEPSPEC:1.0
systemsoftware=AlmaLinux 9.4
LRMSStartTime=20261122091718Z
WallTime=724s
UserTime=600s
KernelTime=3s
AverageResidentMemory=1006360kB
LRMSEndTime=20261122092922Z
exitcode=0
`;

export function localText({ gridId, id }: GridJob, directory: string): string {
  return `globalid=${gridId}
headnode=https://bench.example.org:443/arex
headhost=bench.example.org
globalurl=https://bench.example.org:443/arex/${gridId}
interface=org.nordugrid.arcrest
lrms=vmbatch
queue=main
localid=${id}
args=hello.sh one two\\ words
argscode=0
subject=/DC=org/DC=example/CN=Grid User
starttime=20261122092123Z
lifetime=604800
rerun=0
downloads=0
uploads=0
jobname=bench
gmlog=gmlog
delegexpiretime=20261129092102Z
clientname=127.0.0.1:58568
delegationid=b412d67d4567
sessiondir=${directory}
diskspace=0
freestagein=no
transfershare=_default
priority=50
dryrun=no
`;
}

/** A typical job: 2 variables, 1 RTE, 10 output files. */
export function gramiText(gridId: string, control: string, directory: string): string {
  const outputs = Array.from(
    { length: 10 },
    (_, index) => `joboption_outputfile_${index}='/result-${index}.root'\n`,
  ).join('');
  return `joboption_directory='${directory}'
joboption_controldir='${control}'
joboption_arg_0='./job.sh'
joboption_arg_1='--events'
joboption_arg_2='two words'
joboption_stdin='/dev/null'
joboption_stdout='${directory}/stdout.txt'
joboption_stderr='${directory}/stderr.txt'
joboption_env_0='EVENTS=1000'
joboption_env_1='SEED=it'\\''s 7'
joboption_env_2=GRID_GLOBAL_JOBID='${gridId}'
joboption_env_3=GRID_GLOBAL_JOBURL='https://bench.example.org:443/arex/${gridId}'
joboption_env_4=GRID_GLOBAL_JOBINTERFACE='org.nordugrid.arcrest'
joboption_env_5=GRID_GLOBAL_JOBHOST='bench.example.org'
joboption_cputime=36000
joboption_walltime=36000
joboption_memory=2000
joboption_virtualmemory=
joboption_disk=
joboption_count=1
joboption_penv_type=
joboption_penv_version=
joboption_penv_processesperhost=
joboption_penv_threadsperprocess=
joboption_runtime_0='APPS/BENCH-1.0'
joboption_jobname='bench'
joboption_queue='main'
joboption_starttime=
joboption_gridid='${gridId}'
joboption_priority=50
joboption_inputfile_0='/job.sh'
${outputs}`;
}

export const RUNTIME = `# a runtime environment that does something in each stage
case "$1" in
0) export BENCH_STAGE_ZERO=yes ;;
1) export BENCH_SOFTWARE=/cvmfs/bench.example.org/v1; PATH=$BENCH_SOFTWARE/bin:$PATH; export PATH ;;
2) : ;;
esac
`;
