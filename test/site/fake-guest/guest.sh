#!/bin/sh
# A fake guest: the guest service of vmbatch, in namespaces of its own instead of a virtual machine. Run by the fake
# virsh as process 1 of a PID namespace, with mount and UTS namespaces of its own. What the service says goes to stdout,
# which is the guest's console.
#   guest.sh SERVICE CONTEXT SITE PORT VCPUS MEMORY_KIB
# SERVICE: the guest service; CONTEXT: directory with what was on the context disk; SITE: what the guest must not see;
# PORT: the port of the loopback that leads to the guest's SSH server.
set -u
service=$1
context=$2
site=$3
forwarded_port=$4
vcpus=$5
memory=$6

# Its functions; it does nothing by itself under our name.
. "$service"

# ---- in place of hardware ------------------------------------------------------------------------------

log() {
  read -r log_uptime _ </proc/uptime
  printf 'vmbatch-guest: [%s] %s\n' "$log_uptime" "$1"
}
find_context() {
  device='a directory'
  cp -r "$context/." "$STATE/context/"
}
# It is the node's.
set_clock() { :; }
start_network() { printf '10.0.2.15\n' >"$STATE/address"; }
load_share_drivers() { :; }
allow_user_namespaces() { :; }
start_ntp() { :; }
mount_repositories() { :; }
# Directories in place of disks; what is in the directory of a cache disk does not outlive the guest.
mount_scratch() { [ -z "$VMBATCH_SCRATCH" ] || own_directory 0700 "$VMBATCH_SCRATCH"; }
mount_cache() { [ -z "$VMBATCH_CACHE" ] || mkdir -p "$VMBATCH_CACHE"; }
nproc() { echo "$vcpus"; }
# The shares lie behind the empty directories that hide the node, see below.
mount_shares() { shares_mounted=yes; }
choose_sshd() { sshd=dropbear; }
start_sshd() {
  problem=$(dropbear -s -w -j -k -r "$STATE/dropbear_key" -p "127.0.0.1:$forwarded_port" -P "$STATE/dropbear.pid" \
    2>&1 </dev/null) || fail 'starting dropbear' "${problem##*"$NEWLINE"}"
  log 'dropbear listens'
}
# Keeps the shares where they can be found again, then hides the node's directories for anything that changes.
hide_node() {
  mount -t tmpfs -o mode=0755 vmbatch-guest /mnt || fail 'making the file system of the guest'
  mkdir /mnt/etc /mnt/shares /mnt/context || fail 'making the file system of the guest'
  mount --bind "$context" /mnt/context || fail 'keeping the context'
  context=/mnt/context
  number=0
  while read -r _ _ target _; do
    [ -n "$target" ] || continue
    plain_path "$target" && target=$plain
    number=$((number + 1))
    mkdir "/mnt/shares/$number" && mount --bind "$target" "/mnt/shares/$number" || fail "keeping $target"
  done <<MOUNTS
$1
MOUNTS
  mount -t tmpfs -o mode=1777 vmbatch-guest /tmp && mount -t tmpfs -o mode=1777 vmbatch-guest /var/tmp &&
    mount -t tmpfs -o mode=0755 vmbatch-guest /run || fail 'hiding directories of the node'
  if [ -d "$site" ]; then mount -t tmpfs -o mode=0755 vmbatch-guest "$site" || fail "hiding $site"; fi
  number=0
  while read -r _ source target _; do
    [ -n "$target" ] || continue
    plain_path "$target" && target=$plain
    number=$((number + 1))
    mkdir -p "$target" && mount --bind "/mnt/shares/$number" "$target" || fail "mounting $source on $target"
  done <<MOUNTS
$1
MOUNTS
}
# Files of the system that the service changes, or that tell one machine from another.
own_system_files() {
  # An /etc of its own, with links to what is the node's. Files mounted over the node's would not stay: when useradd on the
  # node replaces /etc/passwd, the kernel takes away whatever is mounted on the old one, here as well. Links of the node's
  # that lead upwards (../usr) are still right in /media.
  mount --rbind /etc /media && ln -s /media/* /mnt/etc/ || fail 'making the guest an /etc of its own'
  for name in passwd group shadow shells hosts hostname; do
    cp -p --remove-destination "/media/$name" /mnt/etc/ || fail "copying /etc/$name"
  done
  rm -f /mnt/etc/os-release
  printf 'PRETTY_NAME="vmbatch fake guest"\nNAME="vmbatch fake guest"\nID=vmbatch-fake\n' >/mnt/etc/os-release
  mount --bind /mnt/etc /etc || fail 'giving the guest its own /etc'
  { printf 'MemTotal:       %8s kB\n' "$memory" && sed 1d /proc/meminfo; } >/mnt/meminfo
  read -r uuid </proc/sys/kernel/random/uuid
  printf '%s\n' "$uuid" >/mnt/boot_id
  mount --bind /mnt/meminfo /proc/meminfo && mount --bind /mnt/boot_id /proc/sys/kernel/random/boot_id ||
    fail 'making the guest another machine'
}

# A test may want a guest that takes its time.
while [ -e "$site/fake/hold" ]; do sleep 0.05; done
# Read twice: the shares must be known before the node is hidden, and the service reads it for itself.
shares=$(. "$context/context.sh" && printf '%s' "$VMBATCH_MOUNTS")
STATE=/mnt
hide_node "$shares"
own_system_files
STATE=/run/vmbatch
LOGIN_HOMES=/mnt/login
main
trap - EXIT
# Reaps whatever the jobs leave behind, for as long as the guest lives.
exec tini -s -- sleep infinity
