// Loaded before the program (`node --require`): writes down which modules it loads, which programs it starts,
// and which files it opens and how much it reads of them, as JSON into $TRACE_FILE at the end. At each
// SIGUSR2 it writes $TRACE_FILE.1, .2, ... and starts the count anew.
const childProcess = require('node:child_process');
const fs = require('node:fs');
const Module = require('node:module');

const { writeFileSync } = fs;
const trace = { modules: [], programs: [], opened: [], bytesRead: 0 };

const load = Module._load;
Module._load = function traced(request, ...rest) {
  if (!trace.modules.includes(request)) trace.modules.push(request);
  return load.call(this, request, ...rest);
};

const { spawn } = childProcess.ChildProcess.prototype;
childProcess.ChildProcess.prototype.spawn = function traced(options) {
  trace.programs.push(options.args);
  return spawn.call(this, options);
};
const { spawnSync } = childProcess;
childProcess.spawnSync = function traced(file, args, ...rest) {
  trace.programs.push([file, ...args]);
  return spawnSync.call(this, file, args, ...rest);
};

const sizeOf = (result) => (typeof result === 'number' ? result : Buffer.byteLength(result));
const wrap = (name, note) => {
  const original = fs[name];
  fs[name] = function traced(...args) {
    const result = original.apply(this, args);
    note(args, result);
    return result;
  };
};
wrap('openSync', ([path]) => trace.opened.push(String(path)));
wrap('readFileSync', ([path], result) => {
  if (typeof path !== 'number') trace.opened.push(String(path));
  trace.bytesRead += sizeOf(result);
});
wrap('readSync', (_args, result) => {
  trace.bytesRead += result;
});
wrap('open', ([path]) => trace.opened.push(String(path)));
wrap('readFile', ([path]) => trace.opened.push(String(path)));
wrap('createReadStream', ([path]) => trace.opened.push(String(path)));

let written = 0;
process.on('SIGUSR2', () => {
  const file = `${process.env.TRACE_FILE}.${++written}`;
  writeFileSync(`${file}.tmp`, JSON.stringify(trace));
  fs.renameSync(`${file}.tmp`, file);
  trace.programs = [];
  trace.opened = [];
  trace.bytesRead = 0;
});
process.on('exit', () => writeFileSync(process.env.TRACE_FILE, JSON.stringify(trace)));
