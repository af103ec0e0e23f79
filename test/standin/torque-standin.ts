// The door of the stand-in's daemons and of its administration by hand.
import { parseArgs } from 'node:util';
import { ABOUT } from './client/connection.ts';
import { findHome } from './common/site.ts';
import { startDaemons, stopDaemons } from './site/daemons.ts';
import { install } from './site/install.ts';

const HELP = `${ABOUT}

usage: torque-standin install DIR [--server-name NAME] [--queue NAME] [--np N]
           make a site directory with one queue and one node (unless standin.json exists) and its commands in DIR/bin
       torque-standin start DIR     start server and moms in the background
       torque-standin stop DIR      stop them and end what their jobs still run
       torque-standin server        run the server of TORQUE_STANDIN_HOME in the foreground
       torque-standin mom --node NAME [--first] [-p|-q|-r] [--block-starts]
                                    run a mom in the foreground; -q and -r kill the jobs of an earlier mom,
                                    which go back into the queue unless they are not rerunnable
`;

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      node: { type: 'string' },
      first: { type: 'boolean' },
      keep: { type: 'boolean', short: 'p' },
      quick: { type: 'boolean', short: 'q' },
      abort: { type: 'boolean', short: 'r' },
      'block-starts': { type: 'boolean' },
      'server-name': { type: 'string', default: 'vm' },
      queue: { type: 'string', default: 'vmalice' },
      np: { type: 'string', default: '4' },
    },
  });
  const [command, directory] = positionals;
  const home = directory ?? findHome();
  if (values.help === true || command === undefined || home === undefined) {
    process.stdout.write(HELP);
    return values.help === true ? 0 : 2;
  }
  switch (command) {
    case 'install': {
      const serverName = values['server-name'];
      const nodes = [{ name: serverName, np: Number(values.np) }];
      install(home, { serverName, queues: [{ name: values.queue, attributes: {} }], nodes });
      process.stdout.write(`put ${home}/bin on PATH, then: torque-standin start ${home}\n`);
      return 0;
    }
    case 'start':
      await startDaemons(home);
      return 0;
    case 'stop':
      process.stdout.write((await stopDaemons(home)).map((line) => `killed ${line}\n`).join(''));
      return 0;
    case 'server':
      (await import('./server/main.ts')).runServer(home);
      return await new Promise<never>(() => undefined);
    case 'mom': {
      if (values.node === undefined) break;
      const { runMom } = await import('./mom/mom.ts');
      const blockStarts = values['block-starts'] ?? false;
      runMom({
        home,
        node: values.node,
        first: values.first ?? false,
        abort: values.abort === true || values.quick === true,
        blockStarts,
      });
      return await new Promise<never>(() => undefined);
    }
  }
  process.stdout.write(HELP);
  return 2;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (thrown: unknown) => {
    process.stderr.write(`torque-standin: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exitCode = 1;
  },
);
