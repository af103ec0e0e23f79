# A file system whose server never answers: mounts FUSE on a directory and leaves every request alone. Prints "mounted", and
# takes the mount away when its stdin ends.
#   hung-share.py DIRECTORY
import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
target = sys.argv[1].encode()
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"vmbatch-test", target, b"fuse", 0, options) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
sys.stdin.read()
# Whoever waits gets an error now, then the directory is as it was.
os.close(device)
libc.umount2(target, 2)
