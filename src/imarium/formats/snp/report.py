"""The attestation report of AMD SEV-SNP: 1,184 bytes, little-endian.

SEV Secure Nested Paging Firmware ABI specification (AMD 56860), section 7.3, table ATTESTATION_REPORT. The structure
has one size in all its versions; later versions use what was reserved. In the versions known here, 2 to 5, reserved
bytes and bits must be zero; those of later versions may mean something, and are not looked at.
"""

import enum
from dataclasses import dataclass

from imarium.errors import MalformedInput

__all__ = [
    "REPORT_SIZE",
    "SIGNED_SIZE",
    "FirmwareVersion",
    "GuestPolicy",
    "PlatformInfo",
    "SigningKey",
    "SnpReport",
    "TcbVersion",
    "parse_snp_report",
]

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
"""The signature covers the bytes before it."""

HOST_VMPL = 0xFFFFFFFF
"""The VMPL of a report that the host asked for."""

_OLDEST, _NEWEST = 2, 5
_WITH_CPUID, _WITH_MITIGATIONS = 3, 4
_ECDSA_P384_SHA384 = 1
_TURIN_FAMILY = 0x1A
_SCALAR, _P384 = 72, 48
"""Bytes of a signature's number in the report, and how many of them a number on P-384 has."""


class GuestPolicy(enum.IntFlag):
    """What the guest's owner allowed (section 4.3). The two lowest bytes are the least ABI version."""

    SMT = 1 << 16
    ALWAYS_ONE = 1 << 17
    MIGRATE_MA = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL_ALLOW = 1 << 21
    MEM_AES_256_XTS = 1 << 22
    RAPL_DIS = 1 << 23
    CIPHERTEXT_HIDING_DRAM = 1 << 24
    PAGE_SWAP_DISABLE = 1 << 25


_KNOWN_POLICY = sum(GuestPolicy) | 0xFFFF


class PlatformInfo(enum.IntFlag):
    """What the platform has switched on. Firmware adds bits within a version, so unknown ones are kept."""

    SMT = 1 << 0
    TSME = 1 << 1
    ECC = 1 << 2
    RAPL_DIS = 1 << 3
    CIPHERTEXT_HIDING_DRAM = 1 << 4
    ALIAS_CHECK_COMPLETE = 1 << 5
    IOMMU_WRITE_SAFE = 1 << 6
    TIO = 1 << 7


class SigningKey(enum.Enum):
    """Which key signed the report: the chip's own, one loaded by the cloud provider, or none."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """Security patch levels of the platform's firmware. ``fmc`` is None before family 1Ah (Turin)."""

    fmc: int | None
    bootloader: int
    tee: int
    snp: int
    microcode: int

    def at_least(self, other: "TcbVersion") -> bool:
        """Whether no part is older than in ``other``. Versions with and without ``fmc`` do not compare: False."""
        if (self.fmc is None) != (other.fmc is None):
            return False
        mine = (self.fmc or 0, self.bootloader, self.tee, self.snp, self.microcode)
        theirs = (other.fmc or 0, other.bootloader, other.tee, other.snp, other.microcode)
        return all(have >= need for have, need in zip(mine, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """A version of the firmware's interface."""

    major: int
    minor: int
    build: int


@dataclass(frozen=True, slots=True)
class SnpReport:
    """One report. ``signed`` is what the signature covers; ``r`` and ``s`` are its numbers.

    ``cpuid`` is family, model and stepping, from version 3 on; the mitigation vectors are there from version 4 on.
    ``vmpl`` is 0 to 3, or HOST_VMPL. ``chip_id`` is all zeros where the host masks it and under a VLEK.
    """

    signed: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: TcbVersion
    platform_info: PlatformInfo
    author_key: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: TcbVersion
    cpuid: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: TcbVersion
    current_firmware: FirmwareVersion
    committed_firmware: FirmwareVersion
    launch_tcb: TcbVersion
    launch_mitigations: int | None
    current_mitigations: int | None
    r: int
    s: int


class _Fields:
    """The report's bytes, by their offsets in the table."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.version = self.number(0x00, 4)
        self.known = self.version <= _NEWEST
        self.turin = self.version >= _WITH_CPUID and data[0x188] >= _TURIN_FAMILY

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "little")

    def fail(self, at: int, expected: str, found: str) -> MalformedInput:
        return MalformedInput("SNP report", offset=at, expected=expected, found=found)

    def reserved(self, start: int, end: int) -> None:
        if self.known and any(self.data[start:end]):
            raise self.fail(start, f"reserved zeros up to byte {end}", "something else")

    def tcb(self, at: int) -> TcbVersion:
        """TCB_VERSION (section 2.2): a layout of its own from family 1Ah on."""
        if self.turin:
            self.reserved(at + 4, at + 7)
            fmc, bootloader, tee, snp = self.data[at : at + 4]
            return TcbVersion(fmc, bootloader, tee, snp, self.data[at + 7])
        self.reserved(at + 2, at + 6)
        bootloader, tee = self.data[at : at + 2]
        return TcbVersion(None, bootloader, tee, self.data[at + 6], self.data[at + 7])

    def firmware(self, at: int) -> FirmwareVersion:
        self.reserved(at + 3, at + 4)
        build, minor, major = self.data[at : at + 3]
        return FirmwareVersion(major, minor, build)

    def scalar(self, at: int) -> int:
        if any(self.data[at + _P384 : at + _SCALAR]):
            raise self.fail(at, f"a number of {_P384} bytes", "a longer one")
        return self.number(at, _P384)


def parse_snp_report(data: bytes) -> SnpReport:
    """The report that ``data`` is, to the last byte.

    Raises MalformedInput, also for versions before 2, a signature that is not ECDSA on P-384 with SHA-384, and what
    is reserved and not zero.
    """
    if len(data) != REPORT_SIZE:
        raise MalformedInput("SNP report", offset=0, expected=f"{REPORT_SIZE} bytes", found=f"{len(data)}")
    fields = _Fields(data)
    if fields.version < _OLDEST:
        raise fields.fail(0, f"version {_OLDEST} or later", f"{fields.version}")
    if fields.number(0x34, 4) != _ECDSA_P384_SHA384:
        raise fields.fail(0x34, "1 (ECDSA on P-384 with SHA-384) as SIGNATURE_ALGO", f"{fields.number(0x34, 4)}")
    _check_reserved(fields)
    author_key, mask_chip_key, signing_key = _key_info(fields)
    mitigations = fields.version >= _WITH_MITIGATIONS
    return SnpReport(
        signed=data[:SIGNED_SIZE],
        version=fields.version,
        guest_svn=fields.number(0x04, 4),
        policy=_policy(fields),
        family_id=data[0x10:0x20],
        image_id=data[0x20:0x30],
        vmpl=_vmpl(fields),
        current_tcb=fields.tcb(0x38),
        platform_info=PlatformInfo(fields.number(0x40, 8)),
        author_key=author_key,
        mask_chip_key=mask_chip_key,
        signing_key=signing_key,
        report_data=data[0x50:0x90],
        measurement=data[0x90:0xC0],
        host_data=data[0xC0:0xE0],
        id_key_digest=data[0xE0:0x110],
        author_key_digest=data[0x110:0x140],
        report_id=data[0x140:0x160],
        report_id_ma=data[0x160:0x180],
        reported_tcb=fields.tcb(0x180),
        cpuid=(data[0x188], data[0x189], data[0x18A]) if fields.version >= _WITH_CPUID else None,
        chip_id=data[0x1A0:0x1E0],
        committed_tcb=fields.tcb(0x1E0),
        current_firmware=fields.firmware(0x1E8),
        committed_firmware=fields.firmware(0x1EC),
        launch_tcb=fields.tcb(0x1F0),
        launch_mitigations=fields.number(0x1F8, 8) if mitigations else None,
        current_mitigations=fields.number(0x200, 8) if mitigations else None,
        r=fields.scalar(SIGNED_SIZE),
        s=fields.scalar(SIGNED_SIZE + _SCALAR),
    )


def _check_reserved(fields: _Fields) -> None:
    fields.reserved(0x4C, 0x50)
    fields.reserved(0x18B if fields.version >= _WITH_CPUID else 0x188, 0x1A0)
    fields.reserved(0x208 if fields.version >= _WITH_MITIGATIONS else 0x1F8, SIGNED_SIZE)
    if any(fields.data[SIGNED_SIZE + 2 * _SCALAR :]):
        raise fields.fail(SIGNED_SIZE + 2 * _SCALAR, "zeros behind the signature's numbers", "something else")


def _policy(fields: _Fields) -> GuestPolicy:
    bits = fields.number(0x08, 8)
    if not bits & GuestPolicy.ALWAYS_ONE:
        raise fields.fail(0x08, "bit 17 of POLICY to be one", f"{bits:#x}")
    if fields.known and bits & ~_KNOWN_POLICY:
        raise fields.fail(0x08, "reserved bits of POLICY to be zero", f"{bits:#x}")
    return GuestPolicy(bits)


def _vmpl(fields: _Fields) -> int:
    vmpl = fields.number(0x30, 4)
    if vmpl > 3 and vmpl != HOST_VMPL:
        raise fields.fail(0x30, f"a VMPL of 0 to 3 or {HOST_VMPL:#x}", f"{vmpl:#x}")
    return vmpl


def _key_info(fields: _Fields) -> tuple[bool, bool, SigningKey]:
    bits = fields.number(0x48, 4)
    if fields.known and bits >> 5:
        raise fields.fail(0x48, "reserved bits of the key information to be zero", f"{bits:#x}")
    try:
        key = SigningKey(bits >> 2 & 7)
    except ValueError:
        raise fields.fail(0x48, "0, 1 or 7 as SIGNING_KEY", f"{bits >> 2 & 7}") from None
    return bool(bits & 1), bool(bits & 2), key
