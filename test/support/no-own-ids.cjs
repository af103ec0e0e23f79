// A Node as Debian 13 has it (20.19.2 with a shared libuv that may use io_uring): whatever would change the
// ids of the process itself is refused, with these words. All tests run with it; `node --require` does the
// same to a program.
for (const name of ['setuid', 'seteuid', 'setgid', 'setegid', 'setgroups', 'initgroups'])
  process[name] = () => {
    const message = `${name}() disabled: io_uring may be enabled. See CVE-2024-22017.`;
    throw Object.assign(new Error(message), { code: 'ERR_INVALID_STATE' });
  };
