"""The token of a VirtCCA confidential VM by its device, ``/dev/tsi``, where configfs-tsm has none.

One ioctl, TMM_GET_ATTESTATION_TOKEN, as openEuler's kernel has it: ``_IOWR('T', 1, ...)`` of a challenge of 64 bytes, a
token of 8192 and its size. The device gives the token only: it extends nothing.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from imarium.errors import DeviceError, MissingComponent, UsageError

__all__ = ["DEVICE", "request_token"]

DEVICE = Path("/dev/tsi")

_COMMAND = struct.Struct("64s8192sQ")
_READ_WRITE = 3
_GET_TOKEN = _READ_WRITE << 30 | _COMMAND.size << 16 | ord("T") << 8 | 1
_CHALLENGE, _TOKEN = 64, 8192


def request_token(challenge: bytes, device: Path = DEVICE) -> bytes:
    """The token over a challenge of 64 bytes.

    Raises MissingComponent where there is no such device, DeviceError where it fails or gives no token, UsageError for
    a challenge of another size.
    """
    if len(challenge) != _CHALLENGE:
        raise UsageError(f"{device} takes a challenge of {_CHALLENGE} bytes, not {len(challenge)}; hash it first")
    command = bytearray(_COMMAND.pack(challenge, b"", 0))
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        advice = "run as root in a confidential VM of VirtCCA, with its tmm_tsi driver loaded"
        raise MissingComponent(f"{device}: {error.strerror}; {advice}") from error
    try:
        fcntl.ioctl(descriptor, _GET_TOKEN, command)
    except OSError as error:
        advice = "the device gives no token; try again"
        if error.errno == errno.ENOTTY:
            advice = "its driver does not know this request; update it"
        raise DeviceError(f"{device}: {error.strerror}: {advice}") from error
    finally:
        os.close(descriptor)
    _, token, size = _COMMAND.unpack(command)
    if not 0 < size <= _TOKEN:
        raise DeviceError(f"{device}: the device says its token has {size} bytes; update its driver")
    return bytes(token[:size])
