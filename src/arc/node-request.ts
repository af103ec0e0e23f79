// What `pbs_queue_node` and a runtime environment's `joboption_nodeproperty_N` add to a job's node request:
// properties, and `ppn=N` for slots on each node.

/** A node request without its number of nodes. */
export interface NodeRequest {
  /** As TORQUE is to read them, in order: `ib`, `gpus=1`. */
  properties: string[];
  /** Of each node; the last one if there are several, as TORQUE has it. */
  slots: number | undefined;
}

/** @param text `ppn=4:ib`
 * @returns undefined if TORQUE could not take it */
export function parseNodeRequest(text: string): NodeRequest | undefined {
  const request: NodeRequest = { properties: [], slots: undefined };
  for (const part of text.split(':')) {
    const slots = /^ppn=([1-9][0-9]{0,5})$/.exec(part)?.[1];
    if (slots !== undefined) request.slots = Number(slots);
    // A number would be one of nodes, which stands before already.
    else if (part.startsWith('ppn=') || /^[0-9]+$/.test(part)) return undefined;
    else if (/^[A-Za-z0-9][A-Za-z0-9_.=-]*$/.test(part)) request.properties.push(part);
    else return undefined;
  }
  return request;
}

/** What nodes have of it: `gpus=1` is asked of them, and is no property. */
export const nodeProperties = (properties: readonly string[]): string[] =>
  properties.filter((property) => !property.includes('=') && !/^[0-9]+$/.test(property));
