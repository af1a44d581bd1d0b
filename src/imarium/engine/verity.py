"""The digest fs-verity has of a file: what the file system checks at every read, asked for and not computed."""

import errno
import fcntl
import struct

from imarium import hashes
from imarium.hashes import HashAlgorithm

__all__ = ["verity_digest"]

_MEASURE_VERITY = 0xC0046686
"""FS_IOC_MEASURE_VERITY."""
_HEADER = struct.Struct("=HH")
_LARGEST = 64
_ALGORITHMS = {1: hashes.SHA256, 2: hashes.SHA512}


def verity_digest(descriptor: int) -> tuple[HashAlgorithm, bytes] | None:
    """Algorithm and digest, or None where fs-verity is not enabled for the file or the file system has none."""
    buffer = bytearray(_HEADER.pack(0, _LARGEST) + bytes(_LARGEST))
    try:
        fcntl.ioctl(descriptor, _MEASURE_VERITY, buffer)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            return None
        raise
    number, size = _HEADER.unpack_from(buffer)
    algorithm = _ALGORITHMS.get(number)
    if algorithm is None or algorithm.size != size:
        return None
    return algorithm, bytes(buffer[_HEADER.size : _HEADER.size + size])
