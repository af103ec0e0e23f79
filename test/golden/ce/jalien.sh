#!/bin/sh
# Batch job of the grid job GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm, made by vmbatch.
#PBS -N JAliEn_17000000
#PBS -q main
#PBS -p -1
#PBS -r n
#PBS -m n
#PBS -e /srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm.comment
#PBS -j eo
#PBS -l nodes=1:ppn=1
# The image is named by arc.conf of ce.example.org
#VMBATCH image=demo vcpus=1

umask 077

# Both go to `.comment`, and keep their order on the way only as one stream.
exec 1>&2

# From the first process of the job on, all of its processes get this signal. Stay, to write down how it ended; a job that is told
# to end before it has begun does not begin.
vmbatch_told=
trap vmbatch_told=yes TERM
set -- $(date -u '+%s %Y%m%d%H%M%SZ')
vmbatch_started=${1:-0}
vmbatch_begin=${2:-}
vmbatch_directory='/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm'
vmbatch_diag='/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm.diag'
vmbatch_code=0
vmbatch_record=
vmbatch_accounting=
# Why the job fails without its own doing: for .comment, and for whoever reads how it ended.
vmbatch_reason() { command printf 'LRMSMessage=%s\n' "$1" >> "$vmbatch_diag"; }
vmbatch_fail() {
    command printf 'vmbatch: %s\n' "$1" >&2
    vmbatch_reason "$1"
}

# In a guest, this FIFO lies beside the script. Nothing that is inherited says so, since that could come from elsewhere.
case $0 in
/*/*) [ -p "${0%/*}/alive" ] ;;
*) false ;;
esac || {
    printf '' > "$vmbatch_diag"
    vmbatch_fail "node fault: the batch job was started on $(uname -n) itself and not in a guest, so its executable was not run; \
is \$job_starter in the mom's config there, and the queue in its node file? (vmbatch check node)"
    printf 'nodename=%s\nLRMSStartTime=%s\nLRMSEndTime=%s\nexitcode=251\n' \
        "$(uname -n)" "$vmbatch_begin" "$vmbatch_begin" >> "$vmbatch_diag"
    [ ! -f "$vmbatch_directory/.vmbatch-submission" ] ||
        printf '%s\n' "${PBS_JOBID:-}" >> "$vmbatch_directory/.vmbatch-submission"
    exit 251
}
if ! cd "$vmbatch_directory"; then
    printf 'vmbatch: the session directory %s is not there on %s\n' "$vmbatch_directory" "$(uname -n)" >&2
    exit 1
fi
# A submission that was killed before it could tell A-REX the id finds it here, whatever became of the job by then.
[ ! -f .vmbatch-submission ] || printf '%s\n' "${PBS_JOBID:-}" >> .vmbatch-submission
{
    # TORQUE's name of the node, once for each slot; the command is for where there is no TORQUE.
    if [ -r "${PBS_NODEFILE:-}" ]; then
        sed -n 's/^./nodename=&/p' "$PBS_NODEFILE"
    else
        printf 'nodename=%s\n' "$(eval '/bin/hostname -f' 2> /dev/null || uname -n)"
    fi
    printf 'Processors=%s\n' '1'
    printf 'Benchmark=%s\n' 'HEPSPEC:1.0'
    printf 'wninstance=%s\n' 'vmbatch:demo'
    printf 'runtimeenvironments=%s\n' ''
    if [ -r /etc/os-release ]; then
        printf 'systemsoftware=%s\n' "$(. /etc/os-release && printf '%s' "$NAME${VERSION:+ $VERSION}")"
    elif [ -r /etc/system-release ]; then
        printf 'systemsoftware=%s\n' "$(sed 1q /etc/system-release)"
    else
        printf 'systemsoftware=%s\n' "$(uname -sr)"
    fi
    printf 'LRMSStartTime=%s\n' "$vmbatch_begin"
} > "$vmbatch_diag" || {
    printf 'vmbatch: cannot write %s: the job will look as if it had not ended\n' "$vmbatch_diag" >&2
    # GNU time would not start the job.
    vmbatch_accounting=shell
}

# What measures the job, as in ARC: cgroups, else GNU time (busybox's knows no such option), else this shell.
if [ -n "$vmbatch_accounting" ]; then
    :
elif command -v arc-job-cgroup > /dev/null 2>&1 &&
    vmbatch_memory=$(arc-job-cgroup -m -n 'GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm') && [ -n "$vmbatch_memory" ] &&
    vmbatch_cpu=$(arc-job-cgroup -c -n 'GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm') && [ -n "$vmbatch_cpu" ]; then
    vmbatch_accounting=cgroup
elif '/usr/bin/time' --version < /dev/null > /dev/null 2>&1; then
    vmbatch_accounting=gnu
else
    vmbatch_accounting=shell
fi


# What the guest's kernel counts: CPU time, of the job's cgroup where it has one, else of the whole guest; and processes that it
# killed for want of memory.
vmbatch_cgroup=
while IFS=: read -r vmbatch_key vmbatch_name vmbatch_path; do
    case $vmbatch_key:$vmbatch_path in 0:/?*) vmbatch_cgroup=/sys/fs/cgroup$vmbatch_path ;; esac
done 2> /dev/null < /proc/self/cgroup
# Prints user's and kernel's time in hundredths of a second.
vmbatch_cpu_time() {
    if [ -r "$vmbatch_cgroup/cpu.stat" ]; then
        while read -r vmbatch_key vmbatch_value; do
            case $vmbatch_key in
            user_usec) vmbatch_user=$((vmbatch_value / 10000)) ;;
            system_usec) vmbatch_kernel=$((vmbatch_value / 10000)) ;;
            esac
        done < "$vmbatch_cgroup/cpu.stat"
    else
        read -r vmbatch_key vmbatch_user vmbatch_nice vmbatch_kernel vmbatch_value < /proc/stat
        vmbatch_user=$((vmbatch_user + vmbatch_nice))
    fi 2> /dev/null
    command printf '%s %s\n' "${vmbatch_user:-0}" "${vmbatch_kernel:-0}"
}
vmbatch_killed_for_memory() { sed -n 's/^oom_kill //p' /proc/vmstat 2> /dev/null; }
vmbatch_cpu_before=$(vmbatch_cpu_time)
vmbatch_oom_before=$(vmbatch_killed_for_memory)

# The job, apart from this shell: its variables must not change what is done here after it.
[ -z "$vmbatch_told" ] || vmbatch_code=143
[ "$vmbatch_code" -ne 0 ] ||
(
    export 'ALIEN_CM_AS_LDAP_PROXY=localhost:10000'
    export 'GRID_GLOBAL_JOBID=GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm'
    export 'GRID_GLOBAL_JOBURL=https://localhost:40443/arex/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm'
    export 'GRID_GLOBAL_JOBINTERFACE=org.nordugrid.arcrest'
    export 'GRID_GLOBAL_JOBHOST=localhost'
    export HOME="$vmbatch_directory"
    # As in ARC, the job's own output files get this and the job's output; what the job's environment makes of the programs
    # that are used here does not belong there.
    vmbatch_refuse() {
        vmbatch_reason "$2"
        command printf '%s\n' "$2" > '/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm/std.out' 2> '/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm/std.err' >&2
        exit "$1"
    }
    set -- '/usr/bin/time' 'bash' 'JAliEn-1700000000000-0.sh'
    [ -f "$1" ] || vmbatch_refuse 1 "Path \"$1\" does not seem to exist"
    [ -x "$1" ] || vmbatch_refuse 126 "Cannot run $1: it is not executable"
    # A missing interpreter would look like a missing executable.
    vmbatch_interpreter=$(
        PATH=/usr/bin:/bin
        line=$(dd if="$1" bs=512 count=1 2> /dev/null | tr -d '\000' | sed -n -e '1s/^#![[:blank:]]*//p' -e 1q)
        set -f
        set -- $line
        case $1 in
        */env) case $2 in -* | *=*) ;; *) command printf '%s' "$2" ;; esac ;;
        *) command printf '%s' "$1" ;;
        esac
    )
    case $vmbatch_interpreter in
    '') ;;
    */*) [ -f "$vmbatch_interpreter" ] && [ -x "$vmbatch_interpreter" ] ;;
    *) command -v "$vmbatch_interpreter" > /dev/null 2>&1 ;;
    esac || vmbatch_refuse 1 "Cannot run $1: $vmbatch_interpreter: not found"
    exec < '/dev/null' > '/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm/std.out' 2> '/srv/arex-samples/session/GxtMDmYwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmDBFKDmx1F7Gm/std.err' || exit 1
    if [ "$vmbatch_accounting" = gnu ]; then
        exec '/usr/bin/time' -a -o "$vmbatch_diag" -f 'WallTime=%es\nKernelTime=%Ss\nUserTime=%Us\nCPUUsage=%P\nMaxResidentMemory=%MkB\nAverageResidentMemory=%tkB\nAverageTotalMemory=%MkB\nAverageUnsharedMemory=%DkB\nAverageUnsharedStack=%pkB\nAverageSharedMemory=%XkB\nPageSize=%ZB\nMajorPageFaults=%F\nMinorPageFaults=%R\nSwaps=%W\nForcedSwitches=%c\nWaitSwitches=%w\nInputs=%I\nOutputs=%O\nSocketReceived=%r\nSocketSent=%s\nSignals=%k' "$@"
    fi
    exec "$@"
)
vmbatch_result=$?
[ "$vmbatch_code" -ne 0 ] || vmbatch_code=$vmbatch_result
# What is done for its files and its record must not end half-way.
trap '' TERM

# Why it ended, if that is more than its exit code.
vmbatch_oom=$(($(vmbatch_killed_for_memory || :) + 0 - ${vmbatch_oom_before:-0}))
if [ "$vmbatch_oom" -gt 0 ]; then
    vmbatch_guest_memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
    set -- "out of memory: the guest, which has $((${vmbatch_guest_memory:-0} / 1024)) MB, killed $vmbatch_oom of its processes"
    if [ "$vmbatch_code" -ne 0 ]; then
        vmbatch_fail "Job exited with code $vmbatch_code, $1"
    else
        printf 'vmbatch: %s\n' "$1" >&2
    fi
fi

# Bytes; busybox's du may know blocks only.
vmbatch_used=$(du -sb . 2> /dev/null)
vmbatch_used=${vmbatch_used%%[!0-9]*}
if [ -z "$vmbatch_used" ]; then
    vmbatch_used=$(du -sk . 2> /dev/null)
    vmbatch_used=${vmbatch_used%%[!0-9]*}
    vmbatch_used=$((${vmbatch_used:-0} * 1024))
fi

case $vmbatch_accounting in
cgroup)
    # The kernel counts bytes and nanoseconds, in its older form ticks. What it does not count is left out.
    vmbatch_measure() { [ -z "$2" ] || vmbatch_record="$vmbatch_record$1=$(($2 / $3))$4
"; }
    vmbatch_read() { cat "$1" 2> /dev/null; }
    vmbatch_total=$(vmbatch_read "$vmbatch_memory/memory.memsw.max_usage_in_bytes")
    vmbatch_ram=$(vmbatch_read "$vmbatch_memory/memory.max_usage_in_bytes")
    vmbatch_measure maxtotalmemory "${vmbatch_total:+($vmbatch_total + 1023)}" 1024 kB
    vmbatch_measure maxresidentmemory "${vmbatch_ram:+($vmbatch_ram + 1023)}" 1024 kB
    vmbatch_measure averageresidentmemory "${vmbatch_ram:+($vmbatch_ram + 1023)}" 1024 kB
    vmbatch_measure AverageTotalMemory "${vmbatch_ram:+($vmbatch_ram + 1023)}" 1024 kB
    for vmbatch_kind in user:User sys:Kernel; do
        vmbatch_time=$(vmbatch_read "$vmbatch_cpu/cpuacct.usage_${vmbatch_kind%:*}")
        if [ -n "$vmbatch_time" ]; then
            vmbatch_measure "${vmbatch_kind#*:}Time" "$vmbatch_time" 1000000000 s
        else
            vmbatch_time=$(sed -n "s/^${vmbatch_kind%:*}[a-z]* //p" "$vmbatch_cpu/cpuacct.stat" 2> /dev/null)
            vmbatch_measure "${vmbatch_kind#*:}Time" "$vmbatch_time" "$(getconf CLK_TCK)" s
        fi
    done
    arc-job-cgroup -m -d
    arc-job-cgroup -c -d
    ;;
shell)
    # Not in a substitution: a new process starts with no times.
    if vmbatch_times=$(mktemp) && times > "$vmbatch_times"; then
        { read -r vmbatch_user vmbatch_kernel && read -r vmbatch_user vmbatch_kernel; } < "$vmbatch_times"
        vmbatch_s=${vmbatch_user#*m}
        vmbatch_user=$((${vmbatch_user%%m*} * 60 + ${vmbatch_s%%[.,s]*}))
        vmbatch_s=${vmbatch_kernel#*m}
        vmbatch_kernel=$((${vmbatch_kernel%%m*} * 60 + ${vmbatch_s%%[.,s]*}))
        vmbatch_record="UserTime=${vmbatch_user}s
KernelTime=${vmbatch_kernel}s
"
    fi
    rm -f "$vmbatch_times"
    ;;
esac
# Whoever measured a job that was killed may have died with it, and this shell knows of no process that it could not wait for.
case $vmbatch_accounting in
gnu) grep -q '^UserTime=' "$vmbatch_diag" ;;
shell) [ "$vmbatch_code" -le 128 ] ;;
esac || {
    set -- $(vmbatch_cpu_time) $vmbatch_cpu_before
    vmbatch_record="UserTime=$((($1 - $3 + 50) / 100))s
KernelTime=$((($2 - $4 + 50) / 100))s
"
}
if [ "$vmbatch_accounting" != cgroup ] && [ -r "$vmbatch_cgroup/memory.peak" ] &&
    ! grep -q '^MaxResidentMemory=' "$vmbatch_diag"; then
    read -r vmbatch_value < "$vmbatch_cgroup/memory.peak"
    vmbatch_record="${vmbatch_record}MaxResidentMemory=$(((vmbatch_value + 1023) / 1024))kB
AverageTotalMemory=$(((vmbatch_value + 1023) / 1024))kB
"
fi
# In one write: whoever finds the exit code finds everything. A-REX's information system knows times by these very letters.
set -- $(date -u '+%s %Y%m%d%H%M%SZ')
printf '%susedscratch=%s\nLRMSEndTime=%s\nWallTime=%ss\nexitcode=%s\n' \
    "$vmbatch_record" "$vmbatch_used" "$2" "$(($1 - vmbatch_started))" "$vmbatch_code" >> "$vmbatch_diag"
exit "$vmbatch_code"
