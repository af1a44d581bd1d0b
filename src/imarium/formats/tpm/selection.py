"""PCR selections and the digest a quote takes over the selected PCRs.

TPM 2.0 Library specification, Part 2, sections 10.6.2 (TPMS_PCR_SELECTION) and 10.9.7 (TPML_PCR_SELECTION).
"""

import struct
from collections.abc import Mapping

from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm.cursor import Cursor
from imarium.hashes import HashAlgorithm

__all__ = [
    "MAX_BANKS",
    "MAX_PCRS",
    "PcrSelection",
    "PcrValues",
    "parse_selection",
    "pcr_digest",
    "read_selection",
    "selection_bytes",
]

PcrSelection = Mapping[HashAlgorithm, tuple[PcrIndex, ...]]
"""The selected PCRs of each bank, ascending. The order of the banks counts: the digest is taken in that order."""

PcrValues = Mapping[HashAlgorithm, Mapping[PcrIndex, bytes]]
"""The values of PCRs, by bank and index."""

MAX_BANKS = 16
"""The most banks in one selection (HASH_COUNT of any implementation is below it)."""

MAX_PCRS = 32
"""PCR indexes are below this. The PC Client profile has 24 PCRs in 3 bytes of bit map; 4 bytes is the limit."""

_MIN_SELECT = 3
_MAX_SELECT = MAX_PCRS // 8


def read_selection(cursor: Cursor) -> PcrSelection:
    """The TPML_PCR_SELECTION at the cursor.

    A bank that is named but selects nothing is kept with an empty tuple. A bank named twice is an error, although
    the specification lets it pass: no TPM software makes such a list, and a mapping could not hold it. Raises
    MalformedInput.
    """
    start = cursor.offset
    count = cursor.u32("the count of PCR selections")
    if count > MAX_BANKS:
        raise cursor.fail(f"at most {MAX_BANKS} PCR selections", f"{count}", at=start)
    selection: dict[HashAlgorithm, tuple[PcrIndex, ...]] = {}
    for _ in range(count):
        at = cursor.offset
        bank = cursor.hash_algorithm("PCR bank")
        if bank in selection:
            raise cursor.fail("each PCR bank once", f"{bank.name} again", at=at)
        at = cursor.offset
        size = cursor.u8("sizeofSelect")
        if not _MIN_SELECT <= size <= _MAX_SELECT:
            raise cursor.fail(f"{_MIN_SELECT} to {_MAX_SELECT} bytes of pcrSelect", f"{size}", at=at)
        bits = int.from_bytes(cursor.take(size, "pcrSelect"), "little")
        selection[bank] = tuple(PcrIndex(index) for index in range(8 * size) if bits >> index & 1)
    return selection


def parse_selection(data: bytes) -> PcrSelection:
    """The TPML_PCR_SELECTION that ``data`` is, to the last byte. Raises MalformedInput."""
    cursor = Cursor(data, "TPML_PCR_SELECTION")
    selection = read_selection(cursor)
    cursor.end()
    return selection


def selection_bytes(selection: PcrSelection) -> bytes:
    """The TPML_PCR_SELECTION of ``selection``, with the 3-byte bit maps of the PC Client profile where they do.

    Raises UsageError for a bank the TCG has no identifier for, too many banks, or an index out of range.
    """
    if len(selection) > MAX_BANKS:
        raise UsageError(f"a selection holds at most {MAX_BANKS} banks, not {len(selection)}")
    parts = [struct.pack(">I", len(selection))]
    for bank, indexes in selection.items():
        if not bank.tcg_id:
            raise UsageError(f"{bank.name} is not a TPM bank; leave it out")
        if any(not 0 <= index < MAX_PCRS for index in indexes):
            raise UsageError(f"PCR indexes go from 0 to {MAX_PCRS - 1}, not {max(indexes)}")
        bits = 0
        for index in indexes:
            bits |= 1 << index
        size = max(_MIN_SELECT, (bits.bit_length() + 7) // 8)
        parts.append(struct.pack(">HB", bank.tcg_id, size) + bits.to_bytes(size, "little"))
    return b"".join(parts)


def pcr_digest(selection: PcrSelection, values: PcrValues, algorithm: HashAlgorithm) -> bytes:
    """The digest a quote holds over ``selection`` if the PCRs have these ``values``.

    The values are concatenated bank by bank in the selection's order, by ascending index within a bank, and hashed
    with ``algorithm``, which is that of the signing scheme (Part 3, section 18.4, TPM2_Quote). Raises
    MalformedInput (``what="PCR values"``) where a selected PCR has no value or one of the wrong size; values
    beyond the selection are not looked at.
    """
    parts: list[bytes] = []
    offset = 0
    for bank, indexes in selection.items():
        for index in sorted(indexes):
            value = values.get(bank, {}).get(index)
            if value is None or len(value) != bank.size:
                found = "none" if value is None else f"{len(value)} bytes"
                expected = f"{bank.size} bytes for PCR {index} of the {bank.name} bank"
                raise MalformedInput("PCR values", offset=offset, expected=expected, found=found)
            parts.append(value)
            offset += len(value)
    return algorithm.digest(b"".join(parts))
