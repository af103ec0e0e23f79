// The step before the domain: the guest's turn to boot.
import { availableParallelism } from 'node:os';
import { lackOfRoom } from '../../admission/memory-and-load.ts';
import { awaitTurn, endTurn, ticketName } from '../../admission/turn.ts';
import { writeRecord } from '../../record.ts';
import type { Step } from './step.ts';

export const turn: Step = {
  name: 'turn',
  // The guests of a job on several nodes wait for each other: two such jobs could wait for each other's turns
  // for ever.
  wanted: ({ config, role }) =>
    (config.starts !== 0 || config.memoryFloorBytes > 0 || config.maxLoad !== undefined) &&
    role === undefined,
  async acquire({ config, state, record, paths, request, facts, remainingMs, signal }) {
    record.ticket = ticketName(record.jobId);
    writeRecord(paths, record);
    // Xen's guests, and those on huge pages, do not take of what Linux calls available; the hypervisor
    // refuses them itself.
    const isOfLinux = facts.type !== 'xen' && config.hypervisor.hugepageBytes === undefined;
    const limits = {
      memoryFloorBytes: isOfLinux ? config.memoryFloorBytes : undefined,
      maxLoad: config.maxLoad,
    };
    await awaitTurn(state, record.ticket, {
      limit: config.starts === 'auto' ? availableParallelism() : config.starts,
      self: record.prologue,
      lack: () => lackOfRoom(state, record.jobId, request.memoryBytes, limits),
      // A guest must still have time to boot.
      deadlineMs: Math.max(0, remainingMs() - Math.min(60_000, config.timeouts.readyMs / 2)),
      signal,
    });
  },
  async release({ state, record }) {
    if (record.ticket !== undefined) endTurn(state, record.ticket);
  },
};
