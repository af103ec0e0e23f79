// Programs in TORQUE's place, which answer at once with what lies ready.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { jobElement, jobRow, jobText, nodeTexts, queueText, ROW_HEADER } from './batch-answers.ts';
import type { GridJob } from './job-files.ts';

const SLOTS = 64;

/** Programs in TORQUE's place. Each does nothing but give an answer that lies ready. */
export function writePrograms(
  bin: string,
  answers: string,
  jobs: readonly GridJob[],
  nodeCount: number,
): string {
  const lists = new Map<string, string>();
  lists.set('qstat-x', `<Data>${jobs.map(jobElement).join('')}</Data>\n`);
  lists.set('qstat-f', jobs.map(jobText).join(''));
  lists.set('qstat-a', ROW_HEADER + jobs.map(jobRow).join(''));
  const running = jobs.filter(({ state }) => state === 'R');
  lists.set('qstat-Qf', queueText(jobs.filter(({ state }) => state === 'Q').length, running.length));
  lists.set(
    'qstat-Qfx',
    '<Data><Queue><name>main</name><queue_type>Execution</queue_type><enabled>True</enabled><started>True</started></Queue></Data>\n',
  );
  const byNode = new Map<string, GridJob[]>();
  for (const job of running) byNode.set(job.node, [...(byNode.get(job.node) ?? []), job]);
  const nodes = Array.from({ length: nodeCount }, (_, index) => {
    const name = `node${String(index).padStart(3, '0')}`;
    return nodeTexts(name, SLOTS, byNode.get(name) ?? []);
  });
  lists.set('pbsnodes-a', nodes.map(({ text }) => text).join(''));
  lists.set('pbsnodes-x', `<Data>${nodes.map(({ element }) => element).join('')}</Data>\n`);
  lists.set('qstat-Bf', 'Server: bench\n    server_state = Active\n    pbs_version = 6.1.3\n\n');
  lists.set('qmgr', 'Server bench\n\tserver_state = Active\n\tpbs_version = 6.1.3\n\n');
  for (const [name, text] of lists) writeFileSync(join(answers, name), text);
  mkdirSync(join(answers, 'by-id'));
  for (const job of jobs)
    if (job.state === 'C') writeFileSync(join(answers, 'by-id', job.id), jobElement(job));

  const programs: Record<string, string> = {
    qsub: 'cat > /dev/null\necho 4711.bench',
    qdel: 'exit 0',
    pbsnodes: `case "$*" in *x*) exec cat ${answers}/pbsnodes-x ;; *) exec cat ${answers}/pbsnodes-a ;; esac`,
    qmgr: `exec cat ${answers}/qmgr`,
    sleep: 'exit 0',
    qstat: `
options= ids=
for word; do case $word in -*) options=$options\${word#-} ;; *) ids="$ids $word" ;; esac; done
case $options in
*B*) exec cat ${answers}/qstat-Bf ;;
*Q*x* | *x*Q*) exec cat ${answers}/qstat-Qfx ;;
*Q*) exec cat ${answers}/qstat-Qf ;;
*x*)
    [ -n "$ids" ] || exec cat ${answers}/qstat-x
    code=0
    for id in $ids; do
        if [ -e ${answers}/by-id/$id ]; then exec 3< ${answers}/by-id/$id; read -r job <&3
            printf '<?xml version="1.0"?>\\n<Data>%s</Data>\\n' "$job"; else
            echo "qstat: Unknown Job Id Error $id" >&2; code=153
        fi
    done
    exit $code ;;
*f*) exec cat ${answers}/qstat-f ;;
*) exec cat ${answers}/qstat-a ;;
esac`,
  };
  for (const [name, text] of Object.entries(programs))
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return bin;
}
