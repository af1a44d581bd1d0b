"""Certificates of SNP keys, under a chain like AMD's, what is said of reports under them, and endorsement keys."""

import struct
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit.cca_builders import NOW, certificate
from tests.unit.snp_reports import CHIP, DATA, LEAF, MEASUREMENT, Report

from imarium.formats.snp import AMD_ARC
from imarium.verifier.certificates import CertifiedKey
from imarium.verifier.snp import SnpPolicy, check_snp

ARK, ASK = (rsa.generate_private_key(65537, 4096) for _ in range(2))
POLICY = SnpPolicy(frozenset({MEASUREMENT}))
TURIN = struct.pack("<BBBB3xB", 1, 2, 3, 4, 5)


def integer(number: int) -> bytes:
    return b"\x02\x01" + bytes([number]) if number < 128 else b"\x02\x02\x00" + bytes([number])


def ia5(text: str) -> bytes:
    return b"\x16" + bytes([len(text)]) + text.encode()


VCEK: dict[str, bytes] = {
    "1": integer(0),
    "2": ia5("Milan-B0"),
    "3.1": integer(3),
    "3.2": integer(0),
    "3.3": integer(8),
    "3.8": integer(0x73),
    "4": CHIP,
}
VLEK: dict[str, bytes] = {key: value for key, value in VCEK.items() if key != "4"} | {"5": ia5("CN=cloud")}
TURIN_VCEK = VCEK | {"2": ia5("Turin"), "3.9": integer(1), "3.1": integer(2), "3.2": integer(3), "3.3": integer(4)}
TURIN_VCEK |= {"3.8": integer(5), "4": CHIP[:8]}


def extensions(values: dict[str, bytes]) -> tuple[x509.UnrecognizedExtension, ...]:
    return tuple(
        x509.UnrecognizedExtension(x509.ObjectIdentifier(AMD_ARC + name), value) for name, value in values.items()
    )


ARK_CERTIFICATE = certificate(ARK, "ARK-Milan", ca=True, pss=True)
ASK_CERTIFICATE = certificate(ASK, "SEV-Milan", ARK, "ARK-Milan", ca=True, path_length=0, pss=True)


def certified(values: dict[str, bytes], key: Any = LEAF, **changes: Any) -> CertifiedKey:
    leaf = certificate(key, "SEV-VCEK", ASK, "SEV-Milan", extensions=extensions(values), pss=True)
    return replace(CertifiedKey(leaf, (ASK_CERTIFICATE,), ARK_CERTIFICATE, NOW), **changes)


VCEK_CHAIN, VLEK_CHAIN, TURIN_CHAIN = certified(VCEK), certified(VLEK), certified(TURIN_VCEK)
REPORT = Report().bytes()


def codes(report: bytes, chain: CertifiedKey = VCEK_CHAIN, data: bytes = DATA, policy: SnpPolicy = POLICY) -> list[str]:
    """Of the reasons against a report, in order."""
    check = check_snp(report, certificates=chain, report_data=data, policy=policy)
    assert check.good == (not check.reasons)
    assert all("\n" not in reason.detail for reason in check.reasons)
    return [reason.code for reason in check.reasons]


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def ek(attributes: int = 0x000300B2, policy: bytes = b"\x0b" * 32, symmetric: bytes = b"\0\6\0\x80\0\x43") -> bytes:
    """The TPMT_PUBLIC of the default RSA 2048 template (L-1)."""
    area = struct.pack(">HHI", 1, 0x0B, attributes) + sized(policy) + symmetric + struct.pack(">HHI", 0x10, 2048, 0)
    return area + sized(b"\x80" + b"\x01" * 255)


def ecc_ek() -> bytes:
    area = struct.pack(">HHI", 0x23, 0x0B, 0x000300B2) + sized(b"\x0b" * 32) + b"\0\6\0\x80\0\x43"
    return area + struct.pack(">HHH", 0x10, 3, 0x10) + sized(b"\1" * 32) + sized(b"\3" * 32)
