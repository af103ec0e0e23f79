// The other ways in which a guest may say that it is ready: an answer over SSH, or QEMU's guest agent. Both
// read what the guest service leaves in its own file system, so nothing on the share is needed for it.
import type { Hypervisor } from '../../hypervisor/port.ts';
import { VmbatchError } from '../../util/errors.ts';
import type { ConnectionOptions } from '../session/connection.ts';
import { parseReadyReport, type ReadyExpectation, type ReadyReport } from './ready.ts';

/** Written by the guest service in every guest. */
const REPORT_FILE = '/run/vmbatch/ready.json';
const MAX_BYTES = 4096;
const AGENT_MS = 2_000;

type Expectation = Omit<ReadyExpectation, 'path' | 'ownerUid'>;

/** Asks over SSH, as the job's user with the pinned host key. Undefined while the guest does not answer.
 * @param connection undefined while the guest's address is not known
 * @throws VmbatchError `node`: another host key, or what {@link parseReadyReport} throws */
export async function askBySsh(
  connection: () => Promise<ConnectionOptions>,
  expected: Expectation,
): Promise<ReadyReport | undefined> {
  const { connect, ConnectionLost, outputOf } = await import('../session/connection.ts');
  try {
    const session = await connect(await connection());
    try {
      const command = await session.exec(`cat ${REPORT_FILE}`);
      const { exitCode, output } = await session.whileUp(outputOf(command, MAX_BYTES));
      if (exitCode !== 0) return undefined;
      return parseReadyReport(Buffer.from(output, 'latin1'), `the guest's ${REPORT_FILE}`, expected);
    } finally {
      session.close();
    }
  } catch (error) {
    if (error instanceof ConnectionLost) return undefined;
    if (error instanceof VmbatchError && error.code === 'guest-unreachable') return undefined;
    throw error;
  }
}

/** Asks the guest agent. Undefined while it does not answer, or has no such file yet.
 * @throws VmbatchError `node` as {@link parseReadyReport} */
export async function askByAgent(
  hypervisor: Pick<Hypervisor, 'agent'>,
  domain: string,
  expected: Expectation,
): Promise<ReadyReport | undefined> {
  const ask = (execute: string, words: object) =>
    hypervisor.agent(domain, { execute, arguments: words }, AGENT_MS);
  let content: Buffer;
  try {
    const handle = await ask('guest-file-open', { path: REPORT_FILE, mode: 'r' });
    const answer = await ask('guest-file-read', { handle, count: MAX_BYTES });
    await ask('guest-file-close', { handle });
    const base64 =
      typeof answer === 'object' && answer !== null && 'buf-b64' in answer ? String(answer['buf-b64']) : '';
    content = Buffer.from(base64, 'base64').subarray(0, MAX_BYTES);
  } catch (error) {
    if (error instanceof VmbatchError && error.code === 'agent-silent') return undefined;
    throw error;
  }
  if (content.length === 0) return undefined;
  return parseReadyReport(content, `the guest's ${REPORT_FILE}`, expected);
}
