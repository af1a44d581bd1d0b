"""The content of a file: hashed in one pass, with bounded memory, and whether it stayed the same meanwhile."""

import fcntl
import os
import struct
import time

from imarium.hashes import HashAlgorithm

__all__ = ["Fingerprint", "fingerprint", "hash_content", "inode_generation", "settled"]

_BLOCK = 1 << 20
_FINE = 50_000_000
_COARSE = 2_100_000_000
_GENERATION = struct.Struct("=l4x")
_GET_VERSION = 0x80087601
"""FS_IOC_GETVERSION on 64-bit machines."""

Fingerprint = tuple[int, int, int]
"""Size, and the times of the last change of content and of attributes, in nanoseconds."""


def fingerprint(status: os.stat_result) -> Fingerprint:
    """What changes with the file's content."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def inode_generation(descriptor: int) -> int | None:
    """What tells files apart that have had the same inode one after the other; None where the file system has none."""
    buffer = bytearray(_GENERATION.size)
    try:
        fcntl.ioctl(descriptor, _GET_VERSION, buffer)
    except OSError:
        return None
    return int(_GENERATION.unpack(buffer)[0])


def settled(status: os.stat_result) -> bool:
    """Whether a change after now would surely get another time than the one the file has.

    Some file systems count time in seconds, most in the ticks of a clock; what has changed just now may change again
    within the same one.
    """
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    grain = _FINE if status.st_ctime_ns % 1_000_000_000 or status.st_mtime_ns % 1_000_000_000 else _COARSE
    return time.time_ns() - changed > grain


def hash_content(descriptor: int, algorithms: tuple[HashAlgorithm, ...]) -> tuple[bytes, ...]:
    """The digests of an open file's content, as long as it is when this begins. Its offset stays.

    Raises OSError where it cannot be read, MissingComponent for an algorithm that cannot be computed.
    """
    hashes = [algorithm.constructor()(b"") for algorithm in algorithms]
    left = os.fstat(descriptor).st_size
    buffer = memoryview(bytearray(min(_BLOCK, max(left, 1))))
    offset = 0
    while left > 0:
        taken = os.preadv(descriptor, [buffer[: min(len(buffer), left)]], offset)
        if not taken:
            break
        for one in hashes:
            one.update(buffer[:taken])
        offset += taken
        left -= taken
    return tuple(one.digest() for one in hashes)
