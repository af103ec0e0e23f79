// What clients, server and moms say to each other: one JSON object a line over unix sockets.
import type { Socket } from 'node:net';

export type Pair = [name: string, value: string];

/** One file or directory of a stage list: `local` on the node, `remote` on that host. */
export interface StagedFile {
  local: string;
  host: string;
  remote: string;
}

/** What qsub sends. The script is base64, since job scripts need not be UTF-8. */
export interface SubmitRequest {
  kind: 'submit';
  name: string;
  queue?: string | undefined;
  resources: Pair[];
  variables: Pair[];
  account?: string | undefined;
  outputPath?: string | undefined;
  errorPath?: string | undefined;
  join: string;
  keep: string;
  hold: boolean;
  mailPoints: string;
  mailUsers?: string | undefined;
  priority: number;
  rerunnable: boolean;
  shell?: string | undefined;
  scriptArguments?: string | undefined;
  umask?: string | undefined;
  arrayRange?: string | undefined;
  group?: string | undefined;
  initDir?: string | undefined;
  /** Seconds since 1970. */
  executionTime?: number | undefined;
  stageIn: StagedFile[];
  stageOut: StagedFile[];
  submitArgs: string;
  submitHost: string;
  workDir: string;
  script: string;
}

export type ClientRequest =
  | SubmitRequest
  | { kind: 'jobs'; name?: string | undefined }
  | { kind: 'queues'; name?: string | undefined }
  | { kind: 'server' }
  | { kind: 'nodes'; name?: string | undefined }
  | { kind: 'delete'; id: string; delay?: number | undefined; purge?: boolean | undefined }
  | { kind: 'signal'; id: string; signal: string }
  | { kind: 'hold'; id: string; held: boolean }
  | { kind: 'node'; name: string; offline?: boolean | undefined; note?: string | undefined }
  | { kind: 'manage'; command: string };

/** One object as the status requests return it: its name and its attributes in TORQUE's order. */
export interface StatusObject {
  name: string;
  attributes: Pair[];
}

export interface ServerReply {
  code: number;
  text: string;
  objects?: StatusObject[];
}

/** Everything a mom must know to start one attempt at a job. */
export interface StartMessage {
  kind: 'start';
  id: string;
  attempt: number;
  name: string;
  user: string;
  uid: number;
  gid: number;
  group: string;
  groups: number[];
  home: string;
  loginShell: string;
  queue: string;
  account: string;
  resources: Pair[];
  variables: Pair[];
  slots: number;
  nodeFile: string[];
  nodes: number;
  processorsPerNode: number;
  shell?: string | undefined;
  scriptArguments?: string | undefined;
  initDir?: string | undefined;
  umask: number;
  join: string;
  keep: string;
  outputPath: string;
  errorPath: string;
  defaultOutputName: string;
  defaultErrorName: string;
  arrayIndex?: number | undefined;
  stageIn: StagedFile[];
  stageOut: StagedFile[];
  killDelaySeconds: number;
  script: string;
}

export type ServerToMom =
  | StartMessage
  | { kind: 'signal'; id: string; signal: string }
  | { kind: 'stray'; id: string }
  | { kind: 'obit-taken'; id: string; keepOutput: boolean };

export type MomToServer =
  | { kind: 'hello'; node: string; pid: number; jobs: string[]; status: string }
  | { kind: 'status'; status: string }
  | { kind: 'slow-start'; id: string; attempt: number }
  | { kind: 'started'; id: string; attempt: number; session: number }
  | { kind: 'used'; id: string; used: Pair[] }
  | { kind: 'obit'; id: string; attempt: number; exitStatus: number; session: number; used: Pair[] };

/** Calls `take` with each line that arrives; a line longer than `limit` bytes ends the connection. */
export function onLines(socket: Socket, take: (line: string) => void, limit = 256 * 1024 * 1024): void {
  let parts: string[] = [];
  let held = 0;
  socket.setEncoding('utf8');
  socket.on('data', (data) => {
    const text = String(data);
    const end = text.indexOf('\n');
    if (end < 0) {
      parts.push(text);
      held += text.length;
      if (held > limit) socket.destroy();
      return;
    }
    parts.push(text.slice(0, end));
    const first = parts.join('');
    const rest = text.slice(end + 1).split('\n');
    const last = rest.pop() ?? '';
    parts = last === '' ? [] : [last];
    held = last.length;
    take(first);
    for (const line of rest) take(line);
  });
}

/** Sends one message; silently nothing when the other side has gone (its absence is noticed elsewhere). */
export function send(socket: Socket, message: object): void {
  if (!socket.destroyed && socket.writable) socket.write(`${JSON.stringify(message)}\n`);
}
