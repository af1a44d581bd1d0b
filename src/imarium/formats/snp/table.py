"""The table of certificates that a host gives its guest along with a report (configfs-tsm's ``auxblob``).

SEV-ES Guest-Hypervisor Communication Block Standardization (AMD 56421), SNP Extended Guest Request: entries of a GUID,
an offset and a size, up to an entry of zeros; then the certificates, in DER. The GUIDs are in the byte order of their
text, the numbers little-endian. A host can put anything there.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

from imarium.errors import MalformedInput

__all__ = ["MAX_CERTIFICATE_TABLE", "CertificateTable", "parse_certificate_table"]

MAX_CERTIFICATE_TABLE = 1 << 16
"""Largest table accepted, in bytes: the three certificates of a chain have some 5,000."""

_VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
_VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
_ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
_ENTRY = struct.Struct("<16sII")
_END = bytes(16)
_MAX_ENTRIES = 32


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """What a chain can be made of: the key's certificate of each kind, and the one that issued it. None where absent.

    The root is not here: it is the verifier's to know.
    """

    vcek: bytes | None = None
    vlek: bytes | None = None
    issuer: bytes | None = None


def parse_certificate_table(data: bytes) -> CertificateTable:
    """The table that ``data`` is; an empty one has no entries. Raises MalformedInput.

    Entries of other kinds are passed over, those of one kind twice are refused.
    """
    if len(data) > MAX_CERTIFICATE_TABLE:
        raise _malformed(0, f"at most {MAX_CERTIFICATE_TABLE} bytes", f"{len(data)}")
    found: dict[UUID, bytes] = {}
    for place in range(_MAX_ENTRIES if data else 0):
        at = place * _ENTRY.size
        if at + _ENTRY.size > len(data):
            raise _malformed(at, "an entry, or one of zeros at the end", f"{len(data) - at} bytes")
        name, offset, size = _ENTRY.unpack_from(data, at)
        if name == _END:
            break
        if not at < offset <= offset + size <= len(data):
            raise _malformed(at, "an entry inside of the table", f"{size} bytes at {offset}")
        if UUID(bytes=name) in found:
            raise _malformed(at, "one entry of a kind", f"a second {UUID(bytes=name)}")
        found[UUID(bytes=name)] = data[offset : offset + size]
    else:
        if data:
            raise _malformed(0, f"at most {_MAX_ENTRIES} entries", "more")
    return CertificateTable(found.get(_VCEK), found.get(_VLEK), found.get(_ASK))


def _malformed(at: int, expected: str, found: str) -> MalformedInput:
    return MalformedInput("SNP certificate table", offset=at, expected=expected, found=found)
