"""On which file system an open file is: what ``fsmagic=``, ``fsname=``, ``fs_subtype=`` and ``fsuuid=`` ask for."""

import ctypes
import fcntl
import os
import struct
import uuid
from pathlib import Path

from imarium.engine.facts import FileSystem

__all__ = ["FileSystems", "mounted_from"]

_GET_UUID = 0x80111500
"""FS_IOC_GETFSUUID: a length and 16 bytes. In Linux since 6.9."""
_STATFS = struct.Struct("=q8x40x8s")
"""Magic and identifier of ``struct statfs``, on 64-bit machines."""
_BY_UUID = Path("/dev/disk/by-uuid")

_libc = ctypes.CDLL(None, use_errno=True)


class FileSystems:
    """File systems met so far. Each is looked into once; a file costs one system call after that."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, bytes], FileSystem] = {}

    def of(self, descriptor: int, device: int) -> FileSystem:
        """The file system of an open file; ``device`` is its ``st_dev``. Raises OSError."""
        buffer = ctypes.create_string_buffer(256)
        if _libc.fstatfs(descriptor, buffer):
            raise OSError(ctypes.get_errno(), "fstatfs failed")
        magic, identifier = _STATFS.unpack_from(buffer.raw)
        key = (device, magic, identifier)
        found = self._known.get(key)
        if found is None:
            name, subtype = _type(descriptor, device)
            found = FileSystem(magic, name, subtype, _uuid(descriptor, device))
            self._known[key] = found
        return found


def mounted_from(descriptor: int, device: int) -> tuple[bytes, bytes]:
    """The device of the file system an open file is on, as ``/proc`` names it, and its type; empty if unknown here.

    It is found by the mount the file was opened through, else by ``device``: that is another where parts of a file
    system have devices of their own.
    """
    with Path(f"/proc/self/fdinfo/{descriptor}").open("rb") as info:
        mount = next((line.split()[1] for line in info if line.startswith(b"mnt_id:")), b"")
    number = b"%d:%d" % (os.major(device), os.minor(device))
    found = number, b""
    with Path("/proc/self/mountinfo").open("rb") as mounts:
        for line in mounts:
            fields, _, rest = line.partition(b" - ")
            words = fields.split()
            if words[0] == mount:
                return words[2], rest.split()[0]
            if words[2] == number:
                found = number, rest.split()[0]
    return found


def _type(descriptor: int, device: int) -> tuple[bytes, bytes | None]:
    name, dot, subtype = mounted_from(descriptor, device)[1].partition(b".")
    return name, subtype if dot else None


def _uuid(descriptor: int, device: int) -> bytes:
    """The UUID, or zeros: from the file system, else from the names of its block device."""
    buffer = bytearray(17)
    try:
        fcntl.ioctl(descriptor, _GET_UUID, buffer)
    except OSError:
        return _uuid_by_name(device)
    return bytes(buffer[1 : 1 + buffer[0]]).ljust(16, b"\0")


def _uuid_by_name(device: int) -> bytes:
    try:
        for link in _BY_UUID.iterdir():
            if link.stat().st_rdev == device:
                return uuid.UUID(link.name).bytes
    except (OSError, ValueError):
        pass
    return bytes(16)
