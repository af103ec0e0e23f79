#!/bin/sh
# Batch job of the grid job YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n, made by vmbatch.
#PBS -N full
#PBS -q second
#PBS -r n
#PBS -m n
#PBS -e /srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n.comment
#PBS -j eo
#PBS -l nodes=2:ppn=4
#PBS -l cput=02:00:00
#PBS -l walltime=01:00:00
#PBS -l mem=16000mb
#VMBATCH image=demo vcpus=4 memory=8000MiB

umask 077

set -- $(date -u '+%s %Y%m%d%H%M%SZ')
vmbatch_started=$1
vmbatch_diag='/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n.diag'

if ! cd '/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n'; then
    printf 'vmbatch: the session directory %s is not there on %s\n' '/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n' "$(uname -n)" >&2
    exit 1
fi
{
    printf 'nodename=%s\n' "$(uname -n)"
    printf 'Processors=%s\n' '8'
    printf 'Benchmark=%s\n' 'HEPSPEC:1.0'
    printf 'wninstance=%s\n' 'vmbatch:demo'
    if [ -r /etc/os-release ]; then
        printf 'systemsoftware=%s\n' "$(. /etc/os-release && printf '%s' "$NAME${VERSION:+ $VERSION}")"
    fi
    printf 'LRMSStartTime=%s\n' "$2"
} > "$vmbatch_diag" ||
    printf 'vmbatch: cannot write %s: the job will look as if it had not ended\n' "$vmbatch_diag" >&2

# GNU time measures the job; busybox and the shell's own do not know this option.
if '/usr/bin/time' --version < /dev/null > /dev/null 2>&1; then
    vmbatch_time=gnu
else
    vmbatch_time=shell
fi

# From here on the job's processes get this signal as well. Stay, to write down how the job ended.
trap : TERM

# The job, apart from this shell: its variables must not change what is done here after it.
(
    export 'A=1'
    export 'GRID_GLOBAL_JOBID=YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n'
    export 'GRID_GLOBAL_JOBURL=https://localhost:40443/arex/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n'
    export 'GRID_GLOBAL_JOBINTERFACE=org.nordugrid.arcrest'
    export 'GRID_GLOBAL_JOBHOST=localhost'
    export HOME='/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n'
    set -- './hello.sh' 'a'
    if [ ! -f "$1" ]; then
        printf 'Path "%s" does not seem to exist\n' "$1" >&2
        exit 1
    fi
    if [ ! -x "$1" ]; then
        printf 'Cannot run %s: it is not executable\n' "$1" >&2
        exit 126
    fi
    # A missing interpreter would look like a missing executable.
    vmbatch_interpreter=$(
        PATH=/usr/bin:/bin
        line=$(dd if="$1" bs=512 count=1 2> /dev/null | tr -d '\000' | sed -n -e '1s/^#![[:blank:]]*//p' -e 1q)
        set -f
        set -- $line
        case $1 in
        */env) case $2 in -* | *=*) ;; *) printf '%s' "$2" ;; esac ;;
        *) printf '%s' "$1" ;;
        esac
    )
    if [ -n "$vmbatch_interpreter" ] && ! command -v "$vmbatch_interpreter" > /dev/null 2>&1; then
        printf 'Cannot run %s: %s: not found\n' "$1" "$vmbatch_interpreter" >&2
        exit 1
    fi
    if [ "$vmbatch_time" = gnu ]; then
        exec '/usr/bin/time' -a -o '/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n.diag' -f 'WallTime=%es\nUserTime=%Us\nKernelTime=%Ss\nCPUUsage=%P\nMaxResidentMemory=%MkB\nAverageResidentMemory=%tkB\nAverageTotalMemory=%KkB' "$@"
    fi
    exec "$@"
) < '/dev/null' > '/srv/arex-samples/session/YstKDmfwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmFBFKDmWcR89n/std.out' 2>&1
vmbatch_code=$?

set -- $(date -u '+%s %Y%m%d%H%M%SZ')
vmbatch_record="LRMSEndTime=$2"
if [ "$vmbatch_time" = shell ]; then
    vmbatch_record="WallTime=$(($1 - vmbatch_started))s
$vmbatch_record"
    # Not in a substitution: a new process starts with no times.
    if vmbatch_times=$(mktemp) && times > "$vmbatch_times"; then
        { read -r vmbatch_user vmbatch_kernel && read -r vmbatch_user vmbatch_kernel; } < "$vmbatch_times"
        vmbatch_s=${vmbatch_user#*m}
        vmbatch_user=$((${vmbatch_user%%m*} * 60 + ${vmbatch_s%%[.,s]*}))
        vmbatch_s=${vmbatch_kernel#*m}
        vmbatch_kernel=$((${vmbatch_kernel%%m*} * 60 + ${vmbatch_s%%[.,s]*}))
        vmbatch_record="UserTime=${vmbatch_user}s
KernelTime=${vmbatch_kernel}s
$vmbatch_record"
    fi
    rm -f "$vmbatch_times"
fi
vmbatch_scratch=$(du -sk . 2> /dev/null)
vmbatch_scratch=${vmbatch_scratch%%[!0-9]*}
if [ -n "$vmbatch_scratch" ]; then
    vmbatch_record="usedscratch=$((vmbatch_scratch * 1024))
$vmbatch_record"
fi
# In one write: whoever finds the exit code finds everything.
printf '%s\nexitcode=%s\n' "$vmbatch_record" "$vmbatch_code" >> "$vmbatch_diag"
exit "$vmbatch_code"
