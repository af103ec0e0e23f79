// `JOB.JB`, what a mom itself writes down of a job: the XML of TORQUE's job_save, with what a real one of 6.1
// was seen to write.
import type { StartMessage } from '../common/protocol.ts';

/** What TORQUE calls the files of a job by: an array's index stands behind a hyphen. */
export const filePrefix = (id: string): string => id.replace(/^(\d+)\[(\d+)\]/, '$1-$2');

/** Without `-W umask` a job's output is its owner's alone. */
const USUAL_UMASK = 0o077;

/** @param node as the mom calls itself
 * @param begun when the start began, in milliseconds */
export function jobFile(message: StartMessage, node: string, begun: number): string {
  const { id, name, uid, gid } = message;
  const seconds = Math.floor(begun / 1000);
  const attributes: [name: string, value: string | undefined][] = [
    ['Job_Name', name],
    ['Job_Owner', `${message.user}@${variable(message, 'PBS_O_HOST')}`],
    ['job_state', 'T'],
    ['queue', message.queue],
    ['Checkpoint', 'u'],
    ['Error_Path', keptOn(node, message, 'e')],
    ['exec_host', `${message.nodeFile[0] ?? node}/0`],
    ['exec_port', '15003'],
    ['Join_Path', message.join],
    ['Keep_Files', message.keep],
    ['mtime', String(seconds)],
    ['Output_Path', keptOn(node, message, 'o')],
    ['Variable_List', message.variables.map((pair) => pair.join('=')).join(',')],
    ['euser', message.user],
    ['egroup', message.group],
    ['hashname', filePrefix(id)],
    ['umask', message.umask === USUAL_UMASK ? undefined : String(message.umask)],
    ['start_time', String(seconds)],
  ];
  const lines = attributes.flatMap(([key, value]) =>
    value === undefined || value === '' ? [] : [`    <${key} flags="3">${escaped(value)}</${key}>`],
  );
  return `<?xml version="1.0"?>
<job>
  <version>131842</version>
  <state>4</state>
  <substate>41</substate>
  <server_flags>65569</server_flags>
  <start_time>${seconds}</start_time>
  <jobid>${id}</jobid>
  <fileprefix>${filePrefix(id)}</fileprefix>
  <queue/>
  <destination_queue/>
  <record_type>3</record_type>
  <svr_addr>2130706433</svr_addr>
  <exit_status>0</exit_status>
  <execution_uid>${uid}</execution_uid>
  <execution_gid>${gid}</execution_gid>
  <attributes>
${lines.join('\n')}
  </attributes>
  <socket_stdout>-1</socket_stdout>
  <socket_stderr>-1</socket_stderr>
  <taskid>2</taskid>
  <nodeid>0</nodeid>
</job>
`;
}

/** A file that is kept stays on this node, whatever host was named (`update_path_attribute` in
 * start_exec.c). */
function keptOn(node: string, { keep, outputPath, errorPath }: StartMessage, key: 'o' | 'e'): string {
  const path = key === 'o' ? outputPath : errorPath;
  return keep.includes(key) ? `${node}:${path.replace(/^[^/]*:/, '')}` : path;
}

function variable({ variables }: StartMessage, name: string): string {
  return variables.find(([other]) => other === name)?.[1] ?? '';
}

/** As libxml2 writes a text where no encoding is named. */
function escaped(text: string): string {
  const signs: Readonly<Record<string, string>> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '\r': '&#13;' };
  return text
    .replaceAll(/[<>&\r]/g, (sign) => signs[sign] ?? sign)
    .replaceAll(/[^\0-\x7f]/gu, (sign) => `&#x${(sign.codePointAt(0) ?? 0).toString(16).toUpperCase()};`);
}
