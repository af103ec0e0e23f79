# Functions of the arex-* scripts; sourced, never executed. Each script takes the directory of the instance as its first
# argument; what arex-up decided about the instance stands in DIR/instance.env.

die () { echo "${0##*/}: $*" >&2; exit 1; }
say () { echo "${0##*/}: $*" >&2; }

# load_instance DIR - set AREX_DIR and the variables written by arex-up
load_instance () {
    [ -n "${1:-}" ] || die "instance directory missing"
    [ -r "$1/instance.env" ] || die "$1 is not an instance made by arex-up"
    AREX_DIR=$(cd "$1" && pwd -P) || exit 1
    . "$AREX_DIR/instance.env"
    arex_env
}

# arex_env - the environment for the service and for every client command:
# our own ARC_LOCATION tree, our own configuration, credentials and job list
arex_env () {
    export ARC_LOCATION="$AREX_DIR/location"
    export ARC_CONFIG="$AREX_DIR/arc.conf"
    export X509_USER_PROXY="$AREX_DIR/ca/proxy.pem"
    export X509_CERT_DIR="$AREX_DIR/ca/certificates"
    export HOME="$AREX_DIR/client"
    export TMPDIR="$AREX_DIR/tmp"
    export LC_ALL=C.UTF-8
    unset X509_USER_CERT X509_USER_KEY
}

# runtime_conf - arc.conf with all defaults filled in, as A-REX hands it on
runtime_conf () { echo "$AREX_DIR/run/arched-arex.cfg"; }

# bare job id (as used in control file names) from an id or a job URL
bare_id () { local id=${1%/}; echo "${id##*/}"; }

# full job URL from a bare id or a URL
job_url () {
    case $1 in
        *://*) echo "$1" ;;
        *) echo "$AREX_WSURL/rest/1.0/jobs/$1" ;;
    esac
}

# state ID - the A-REX state (ACCEPTED PREPARING SUBMIT INLRMS ... FINISHED),
# empty if the job is not known
state () {
    local id=$1 d
    for d in accepting restarting processing finished; do
        if [ -r "$AREX_DIR/control/$d/job.$id.status" ]; then
            tr -d '\n' < "$AREX_DIR/control/$d/job.$id.status"; return 0
        fi
    done
    return 1
}

# control_file ID SUFFIX - path of a job's control file
control_file () { echo "$AREX_DIR/control/job.$1.$2"; }

alive () { [ -n "${1:-}" ] && kill -0 "$1" 2>/dev/null; }
