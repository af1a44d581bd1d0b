"""The directory a tree is mounted on: fit for it, left over from a killed server, and unmounted."""

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

from imarium.errors import MissingComponent, UsageError

__all__ = ["check", "unmount"]

_MNT_FORCE, _MNT_DETACH = 1, 2  # linux/fs.h


def check(place: Path) -> None:
    """Raises MissingComponent or UsageError, with what to do, unless ``place`` is an empty directory to mount on."""
    try:
        used = any(place.iterdir())
        mounted = place.is_mount()
    except OSError as error:
        raise _unfit(place, error) from error
    if mounted:
        raise UsageError(f"{place}: something is mounted there; unmount it ('umount {place}') or choose another place")
    if used:
        raise UsageError(f"{place}: not empty, and mounting would hide what is in it; choose an empty directory")


def unmount(place: Path) -> None:
    """Unmount ``place``, also if files of it are open (they fail from now on) or if its server is gone.

    Raises MissingComponent if nothing is mounted there, or it may not be unmounted.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(place), _MNT_FORCE | _MNT_DETACH):
            reason = os.strerror(ctypes.get_errno())
            raise MissingComponent(f"{place}: could not be unmounted: {reason}; see /proc/mounts for what is mounted")
        return
    program = shutil.which("fusermount3")
    if program is None:
        raise MissingComponent(f"{place}: only root can unmount without fusermount3: apt install fuse3")
    done = subprocess.run([program, "-u", "-z", "--", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise MissingComponent(f"{place}: could not be unmounted: {said[-1]}")


def _unfit(place: Path, error: OSError) -> MissingComponent:
    if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
        return MissingComponent(f"{place}: the server of what is mounted there is gone; run 'umount -l {place}' first")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingComponent(f"{place}: not a directory; make it first")
    return MissingComponent(f"{place}: {error.strerror}; choose a directory you may read")
