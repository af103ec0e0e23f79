// The demo's stages while they go on: a list that is kept up to date on a terminal, plain lines elsewhere.
import { Listr, PRESET_TIMER } from 'listr2';
import type { Stages } from './stages.ts';

/** Ends when all stages are over or one has failed; never throws, since whoever runs the stages does.
 * @param silent shows nothing. */
export async function showStages(stages: Stages, silent: boolean): Promise<void> {
  const width = Math.max(...stages.titles.map((title) => title.length));
  const tasks = stages.titles.map((title) => ({
    title: title.padEnd(width),
    task: () => stages.ended(title),
  }));
  const timer = {
    ...PRESET_TIMER,
    condition: true,
    field: (ms: number) => `${(ms / 1000).toFixed(1).padStart(5)} s`,
  };
  const list = new Listr(tasks, {
    renderer: silent ? 'silent' : 'default',
    fallbackRenderer: 'simple',
    // A signal is ours to heed: listr2 would exit at once.
    registerSignalListeners: false,
    rendererOptions: { timer, collapseErrors: false, showErrorMessage: false },
    fallbackRendererOptions: { timer },
  });
  await list.run().catch(() => undefined);
}
