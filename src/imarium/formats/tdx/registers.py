"""Measurement registers of a TD, and the three ways they are counted.

A TD has MRTD, its initial contents, and four run-time registers, RTMR[0] to RTMR[3]. A CC event log counts them
together: 0 is MRTD and RTMR[n] is n + 1 (UEFI specification, section 38.4.1). A measurement list's register column
is a PcrIndex. Each is a type of its own.
"""

from collections.abc import Mapping
from typing import NewType

from imarium.errors import UsageError
from imarium.hashes import SHA384

__all__ = [
    "IMA_RTMR",
    "MRTD_EVENT_INDEX",
    "REGISTER_SIZE",
    "RTMRS",
    "CcEventIndex",
    "RtmrIndex",
    "event_index",
    "rtmr_index",
    "tdx_boot_aggregate",
]

RtmrIndex = NewType("RtmrIndex", int)
"""The index of a TDX run-time measurement register, 0 to 3."""

CcEventIndex = NewType("CcEventIndex", int)
"""A register as a CC event log counts it: 0 is MRTD, 1 to 4 are RTMR[0] to RTMR[3]."""

RTMRS: tuple[RtmrIndex, ...] = tuple(RtmrIndex(index) for index in range(4))
"""Every run-time register of a TD."""

IMA_RTMR = RtmrIndex(2)
"""The register IMA extends in Intel's patches to the kernel; firmware and boot loader extend it before."""

MRTD_EVENT_INDEX = CcEventIndex(0)
"""MRTD in a CC event log. Nothing extends it once the TD runs."""

REGISTER_SIZE = SHA384.size
"""MRTD and RTMRs are SHA-384 values."""


def rtmr_index(index: CcEventIndex) -> RtmrIndex | None:
    """The RTMR that a CC event log calls ``index``, or None for MRTD. Raises UsageError for a number above 4."""
    if index == MRTD_EVENT_INDEX:
        return None
    if not 1 <= index <= len(RTMRS):
        raise UsageError(f"a CC event log counts registers from 0 to {len(RTMRS)}, not {index}")
    return RTMRS[index - 1]


def event_index(rtmr: RtmrIndex) -> CcEventIndex:
    """What a CC event log calls ``rtmr``. Raises UsageError for a number that is no RTMR."""
    if rtmr not in RTMRS:
        raise UsageError(f"a TD has RTMR 0 to {len(RTMRS) - 1}, not {rtmr}")
    return CcEventIndex(rtmr + 1)


def tdx_boot_aggregate(mrtd: bytes, registers: Mapping[RtmrIndex, bytes]) -> bytes:
    """The digest of the boot_aggregate record where IMA is anchored in a TD: SHA-384 over MRTD, RTMR 0, 1 and 2.

    ``registers`` are the values before IMA extended any of them. Raises UsageError if one of the three is missing,
    or a value has not the 48 bytes of a register.
    """
    values = [mrtd]
    for index in RTMRS[: IMA_RTMR + 1]:
        if index not in registers:
            raise UsageError(f"a boot_aggregate needs the value of RTMR {index}")
        values.append(registers[index])
    if any(len(value) != REGISTER_SIZE for value in values):
        raise UsageError(f"the values of MRTD and RTMRs have {REGISTER_SIZE} bytes")
    return SHA384.digest(b"".join(values))
