# Restores an ISO image to a directory with pycdlib.
#   restore-iso.py rr_path|joliet_path IMAGE DIRECTORY
import os
import sys

import pycdlib

kind, image, target = sys.argv[1:]
iso = pycdlib.PyCdlib()
iso.open(image)
for folder, folders, files in iso.walk(**{kind: "/"}):
    inside = target + folder.rstrip("/")
    for name in folders:
        os.mkdir(f"{inside}/{name}")
    for name in files:
        iso.get_file_from_iso(f"{inside}/{name}", **{kind: f"{folder.rstrip('/')}/{name}"})
iso.close()
