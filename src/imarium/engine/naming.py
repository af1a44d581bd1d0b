"""The name of an open file, as the kernel writes it into a record."""

import errno
import mmap
import os
import re
from pathlib import Path

__all__ = ["file_name"]

_DELETED = b" (deleted)"
_ESCAPED = re.compile(rb"\\012")


def file_name(descriptor: int) -> bytes:
    """The absolute path the file was opened by, seen from the root of its mounts; that of a deleted file as it was.

    Of a path longer than PATH_MAX the kernel keeps the last component alone, so this does.
    """
    try:
        name = os.readlink(b"/proc/self/fd/%d" % descriptor)  # noqa: PTH115 - names are bytes
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _mapped_name(descriptor).rpartition(b"/")[2]
    if name.endswith(_DELETED) and not _is_there(name, descriptor):
        name = name.removesuffix(_DELETED)
    return name


def _is_there(path: bytes, descriptor: int) -> bool:
    """Whether the file is found under a path: then that is its name, whatever it looks like."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _mapped_name(descriptor: int) -> bytes:
    """The path of any length that ``/proc/self/maps`` has of a mapped file; an empty one cannot be mapped."""
    try:
        mapped = mmap.mmap(descriptor, 1, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return b""
    with mapped, Path("/proc/self/maps").open("rb") as maps:
        inode = b" %d " % os.fstat(descriptor).st_ino
        names = [line.partition(b"/") for line in maps if inode in line]
    long = [_ESCAPED.sub(b"\n", rest.rstrip(b"\n")).removesuffix(_DELETED) for _, slash, rest in names if slash]
    return max(long, key=len, default=b"")
