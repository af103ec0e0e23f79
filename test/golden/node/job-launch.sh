set -eu
umask 077
directory='/var/tmp/vmbatch-112.server'
if [ -e "$directory/started" ]; then
  echo started
  exit 0
fi
mkdir -p -- "$directory"
cd -- "$directory"
work=launch.$$
rm -rf "$work"
mkdir "$work"
cd "$work"
base64 -d >./'112.server.SC' <<'vmbatch-end'
IyEvYmluL3NoCmVjaG8gaGVsbG8K
vmbatch-end
chmod 700 ./'112.server.SC'
base64 -d >environment <<'vmbatch-end'
ZXhlYyBlbnYgLWkgJ1BBVEg9L3Vzci9sb2NhbC9zYmluOi91c3IvbG9jYWwvYmluOi91c3Ivc2Jp
bjovdXNyL2Jpbjovc2JpbjovYmluJyAnUEJTX0pPQklEPTExMi5zZXJ2ZXInICdUUklDS1k9aXQn
XCcncycgJ1BCU19OT0RFRklMRT0vdmFyL3RtcC92bWJhdGNoLTExMi5zZXJ2ZXIvbm9kZXMnICR7
c2hlbGw6KyJTSEVMTD0kc2hlbGwifSAiJEAiCg==
vmbatch-end
base64 -d >nodes <<'vmbatch-end'
bm9kZS0xCg==
vmbatch-end
base64 -d >input <<'vmbatch-end'
L3Zhci90bXAvdm1iYXRjaC0xMTIuc2VydmVyLzExMi5zZXJ2ZXIuU0Mgb25lIHR3bwo=
vmbatch-end
: >out
: >err
mkfifo alive
cat >run-job <<'vmbatch-end'
# Becomes the job: its process id is the group's and the session's.
echo "$$" >pid.new
mv pid.new pid
shell=
case $1 in
  # The shell of an account that nobody may log in with: it runs no job.
  */nologin | */false)
    shift
    if [ -x /bin/bash ]; then shell=/bin/bash; else shell=/bin/sh; fi
    set -- "$shell" "$@"
    ;;
esac
exec <input >>out 9>&-
if [ ! -x "$1" ]; then
  echo "vmbatch: the guest has no shell $1" >&2
  exit 254
fi
# take FLAG SOFT HARD: a limit as the node has it, or as near to it as this guest comes.
take() {
  ulimit -S "$1" "$2" || ulimit -S "$1" "$(ulimit -H "$1")"
  ulimit -H "$1" "$3"
} 2>/dev/null
# Processes: dash and busybox have another letter for them than bash.
processes=-u
(ulimit -H -u) >/dev/null 2>&1 || processes=-p
take -n 1024 4096
take "$processes" unlimited unlimited
umask '0077'
launch=$PWD
cd -- '/' >/dev/null 2>&1 || cd /
# What the job finds in its environment is the job's alone, also what no shell can hold as a variable.
. "$launch/environment"
vmbatch-end
cat >watch-over <<'vmbatch-end'
# Waits for the job. Descriptor 9 keeps the FIFO open for as long as this lives. The traps keep this alive and,
# unlike ignored signals, are not handed down to the job.
trap : HUP INT TERM USR1 USR2
setsid /bin/sh ./run-job "$@" 2>>err
code=$?
read -r job <pid
# The mom's shell dies of a signal at once; what it started may have something to put in order first. If the signal
# came from outside, its time is the batch system's kill delay: when that is over, so is the guest. A job that has
# signalled itself (`kill 0`) gets some seconds. Codes above 192 are of no signal.
looks=0
while [ "$code" -gt 128 ] && [ "$code" -le 192 ] && kill -0 "-$job" 2>/dev/null; do
  [ -e signalled ] || [ "$looks" -lt 50 ] || break
  sleep 0.1
  looks=$((looks + 1))
done
kill -KILL "-$job" 2>/dev/null
echo "$code $(wc -c <out) $(wc -c <err)" >exit.new
mv exit.new exit
vmbatch-end
cd ..
{
  # One launch starts the job, however many were sent: a lost connection's may be under way still.
  if mkdir claimed 2>/dev/null; then
    mv "$work"/* .
    rmdir "$work"
    exec 9<>alive
    : >started
    (echo started) || :
    exec setsid /bin/sh ./watch-over '/bin/bash' -l </dev/null >/dev/null 2>&1
  fi
  rm -rf "$work"
  tries=0
  until [ -e started ] || [ "$tries" -ge 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  [ ! -e started ] || echo started
}
