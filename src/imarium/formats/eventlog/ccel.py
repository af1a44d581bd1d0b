"""The ACPI table that says where the CC event log is. ACPI specification, section 5.2.34.

Linux shows it as ``/sys/firmware/acpi/tables/CCEL``, and the area it points to as ``.../tables/data/CCEL``.
"""

import enum
from dataclasses import dataclass

from imarium.formats.tdx.cursor import LittleEndianCursor

__all__ = ["CcType", "CcelTable", "parse_ccel_table"]

_SIZE = 56


class CcType(enum.IntEnum):
    """The technologies that have a CC event log."""

    SEV = 1
    TDX = 2


@dataclass(frozen=True, slots=True)
class CcelTable:
    """The CCEL table: ``log_size`` bytes of log area at the guest-physical address ``log_address``."""

    cc_type: CcType
    cc_subtype: int
    log_size: int
    log_address: int


def parse_ccel_table(data: bytes) -> CcelTable:
    """The CCEL table that ``data`` is, to the last byte. Raises MalformedInput, also for a wrong checksum."""
    cursor = LittleEndianCursor(data, "CCEL table")
    if cursor.take(4, "signature") != b"CCEL":
        raise cursor.fail("the signature CCEL", repr(data[:4]), at=0)
    size = cursor.u32("length")
    if size != _SIZE or len(data) != _SIZE:
        raise cursor.fail(f"a table of {_SIZE} bytes", f"a length of {size} and {len(data)} bytes", at=4)
    if sum(data) % 256:
        raise cursor.fail("bytes whose sum is 0", f"{sum(data) % 256}", at=9)
    cursor.offset = 36
    kind = cursor.take(1, "type")[0]
    try:
        cc_type = CcType(kind)
    except ValueError:
        raise cursor.fail("1 for SEV or 2 for TDX", f"{kind}", at=36) from None
    subtype = cursor.take(1, "subtype")[0]
    cursor.take(2, "reserved bytes")
    return CcelTable(cc_type, subtype, cursor.u64("log size"), cursor.u64("log address"))
