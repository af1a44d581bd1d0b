"""The extensions of VCEK and VLEK certificates, as they stand in the certificate.

Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface specification (AMD 57230), section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imarium.errors import MalformedInput
from imarium.formats.snp.report import TcbVersion

__all__ = ["AMD_ARC", "KeyCertificate", "parse_key_extensions"]

AMD_ARC = "1.3.6.1.4.1.3704.1."
"""The object identifiers of these extensions start with this."""

_PRODUCT, _HWID, _CSP = "2", "4", "5"
_BOOTLOADER, _TEE, _SNP, _MICROCODE, _FMC = "3.1", "3.2", "3.3", "3.8", "3.9"
_INTEGER, _OCTETS, _IA5 = 0x02, 0x04, 0x16
_HWID_SIZES = (8, 64)
"""The bytes of a hardware ID: 8 on Turin, 64 before."""


@dataclass(frozen=True, slots=True)
class KeyCertificate:
    """What the certificate of a signing key says.

    ``hardware_id`` names the chip of a VCEK and has 8 or 64 bytes; ``csp_id`` names the provider of a VLEK. Each is
    None where the certificate does not have it.
    """

    product: str
    tcb: TcbVersion
    hardware_id: bytes | None
    csp_id: str | None


def parse_key_extensions(extensions: Mapping[str, bytes]) -> KeyCertificate:
    """The certificate with these extensions, which are raw values by what follows AMD_ARC in their identifiers.

    Raises MalformedInput.
    """
    fmc = _level(extensions, _FMC) if _FMC in extensions else None
    tcb = TcbVersion(fmc, *(_level(extensions, name) for name in (_BOOTLOADER, _TEE, _SNP, _MICROCODE)))
    csp = _text(extensions, _CSP) if _CSP in extensions else None
    hardware = _hardware(extensions[_HWID]) if _HWID in extensions else None
    return KeyCertificate(_text(extensions, _PRODUCT), tcb, hardware, csp)


def _value(extensions: Mapping[str, bytes], name: str, tag: int) -> bytes:
    """The content of a short DER item."""
    raw = extensions.get(name)
    if raw is None or len(raw) < 2 or raw[0] != tag or raw[1] != len(raw) - 2 or raw[1] > 127:
        raise _malformed(f"extension {AMD_ARC}{name} of DER type {tag:#04x}", "none" if raw is None else raw[:20].hex())
    return raw[2:]


def _level(extensions: Mapping[str, bytes], name: str) -> int:
    content = _value(extensions, name, _INTEGER)
    number = int.from_bytes(content, "big", signed=True)
    if not content or len(content) > 2 or not 0 <= number <= 255:
        raise _malformed(f"0 to 255 in extension {AMD_ARC}{name}", content.hex() or "nothing")
    return number


def _text(extensions: Mapping[str, bytes], name: str) -> str:
    content = _value(extensions, name, _IA5)
    if not content.isascii():
        raise _malformed(f"ASCII in extension {AMD_ARC}{name}", content.hex())
    return content.decode("ascii")


def _hardware(raw: bytes) -> bytes:
    """Some certificates have the bytes as they are, some in a DER octet string."""
    for size in _HWID_SIZES:
        if len(raw) == size:
            return raw
        if len(raw) == size + 2 and raw[:2] == bytes((_OCTETS, size)):
            return raw[2:]
    raise _malformed(f"a hardware ID of 8 or 64 bytes in extension {AMD_ARC}{_HWID}", f"{len(raw)} bytes")


def _malformed(expected: str, found: str) -> MalformedInput:
    return MalformedInput("SNP key certificate", offset=0, expected=expected, found=found)
