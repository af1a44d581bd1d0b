"""The TPM's clock and counts, asked of the device with one command, without a session or a library.

TPM2_ReadClock, part 3, section 29.1; TPMS_TIME_INFO, part 2, section 10.11.6.
"""

import os
import struct
from pathlib import Path

from imarium.formats.tpm.attest import ClockInfo

__all__ = ["DEVICE", "read_clock"]

DEVICE = Path("/dev/tpmrm0")

_COMMAND = struct.pack(">HII", 0x8001, 10, 0x0181)
_ANSWER = struct.Struct(">HIIQQIIB")
_SIZE = 4096


def read_clock(device: Path = DEVICE) -> ClockInfo | None:
    """What the TPM's clock shows; None where there is no TPM, it is in use, or it does not answer so."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(descriptor, _COMMAND)
            answer = os.read(descriptor, _SIZE)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if len(answer) != _ANSWER.size:
        return None
    _, size, code, _, clock, resets, restarts, safe = _ANSWER.unpack(answer)
    return ClockInfo(clock, resets, restarts, bool(safe)) if size == len(answer) and code == 0 else None
