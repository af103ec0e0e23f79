#!/bin/bash
# What a job was given, for a test to compare: arguments, some of the environment, stdin, limits.
printf 'directory %s\n' "${PWD##*/}"
printf 'home %s\n' "${HOME##*/}"
printf 'umask %s\n' "$(umask)"
printf '<%s>\n' "$@"
for name in PLAIN SPACE QUOTE DQ DOLLAR BSL UTF EMPTY GREETING; do
    [ -z "${!name+set}" ] || printf '%s=<%s>\n' "$name" "${!name}"
done
printf 'stdin %s\n' "$(cat)"
mkdir -p dir
echo 'in a directory' > dir/one.txt
echo 'spaced' > 'out put.dat'
echo 'nobody asked for this' > rest.txt
exit "${SHOW_EXIT:-0}"
