// What a job asks for with `-l nodes=` and `-l procs=`.

/** One part of a node request: so many nodes, each with so many slots. */
export interface NodePart {
  nodes: number;
  ppn: number;
}

/** Reads a node request such as `2:ppn=4:big+node7:ppn=2`. A part that names a host is one node. */
export function nodeParts(request: string): NodePart[] {
  return request.split('+').map((part) => {
    const [first = '1', ...properties] = part.split(':');
    const perNode = properties.find((property) => property.startsWith('ppn='))?.slice(4) ?? '1';
    const nodes = /^[0-9]+$/.test(first) ? Number(first) : 1;
    return { nodes, ppn: Number.parseInt(perNode, 10) || 1 };
  });
}

/** Slots of a node request on all of its nodes.
 * @param nodes undefined: one slot, as TORQUE gives a job that asks for nothing */
export function requestedSlots(nodes: string | undefined): number {
  let slots = 0;
  for (const part of nodeParts(nodes ?? '1')) slots += part.nodes * part.ppn;
  return slots;
}

/** What a list of resources such as `nodes=2:ppn=4,mem=1gb` says of `nodes` and `procs`. */
export function nodeRequest(resources: string): { nodes: string | undefined; procs: number | undefined } {
  const value = (name: string) => new RegExp(`(?:^|,)${name}=([^,]+)`).exec(resources)?.[1];
  const procs = value('procs');
  return {
    nodes: value('nodes'),
    procs: procs !== undefined && /^[1-9][0-9]{0,4}$/.test(procs) ? Number(procs) : undefined,
  };
}
