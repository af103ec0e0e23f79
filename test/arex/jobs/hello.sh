#!/bin/sh
echo "hello from $(id -un) in ${PWD##*/}"
for a in "$@"; do echo "arg: $a"; done
echo "to stderr" >&2
echo "result of $GRID_GLOBAL_JOBID" > result.txt
cat /proc/sys/kernel/random/boot_id > machine.txt
