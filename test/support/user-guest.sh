#!/bin/sh
# A machine that has nothing of a guest but its user and its SSH server, both made by the guest service itself: in namespaces,
# with an /etc of its own.
#   user-guest.sh SERVICE SERVER PORT
# SERVICE: the guest service; SERVER: dropbear or openssh; PORT: of 127.0.0.1. The VMBATCH_ values are in the environment.
set -u
service=$1
server=$2
port=$3

fail_here() { echo "user-guest: $1" >&2 && exit 1; }
mount -t tmpfs -o mode=0755 user-guest /mnt && mkdir /mnt/etc || fail_here 'no file system of its own'
mount --rbind /etc /media && ln -s /media/* /mnt/etc/ || fail_here 'no /etc of its own'
rm /mnt/etc/ssh && cp -r /media/ssh /mnt/etc/ssh
for name in passwd group shadow shells hosts; do
  cp -p --remove-destination "/media/$name" /mnt/etc/ || fail_here "cannot copy /etc/$name"
done
# The image's own, which must not be in the way.
sed "s/^Port 22\$/Port $port\nListenAddress 127.0.0.1/; s/-p 22 /-p 127.0.0.1:$port /; s/:0016,/:$(printf %04X "$port"),/" \
  "$service" >/mnt/service
mount --bind /mnt/etc /etc && mount -t tmpfs -o mode=0755 user-guest /run || fail_here 'no /etc of its own'

. /mnt/service
log() { :; }
mkdir -p "$STATE"
LOGIN_HOMES=/mnt/login
sshd=$server shared=
: "${VMBATCH_GROUPS=}" "${VMBATCH_LOGIN=}"
(install_host_key) || fail_here "host key: $(cat "$STATE/error")"
make_user
install_authorised_key
raise_limits
start_sshd
echo ready
exec tini -s -- sleep infinity
