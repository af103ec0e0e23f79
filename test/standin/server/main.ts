// `torque-standin server`: the process that keeps the queue.
import { makeSite, sitePaths } from '../common/site.ts';
import { BatchServer } from './batch.ts';
import { listenForClients } from './clients.ts';
import { readConfig } from './config.ts';
import { listenForMoms } from './moms.ts';
import { startScheduler } from './scheduler.ts';

/** Runs until SIGTERM; running jobs go on without the server, as with TORQUE. */
export function runServer(home: string): void {
  process.umask(0o022);
  const paths = sitePaths(home);
  makeSite(paths);
  const server = new BatchServer(paths, readConfig(paths.config));
  startScheduler(server);
  listenForMoms(server);
  listenForClients(server);
  server.log('02', 'Svr', 'Log', 'Log opened');
  const stop = (): void => {
    server.log('02', 'Svr', 'PBS_Server', 'Server shutdown');
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}
