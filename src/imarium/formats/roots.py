"""What a root of trust says, as evidence carries it: one part for each kind, chosen by a table.

Each has what its device gave in the device's own encoding; nothing that a signature covers is encoded again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from imarium.formats.cca import MAX_TOKEN
from imarium.formats.eventlog import MAX_LOG_SIZE
from imarium.formats.members import describe, malformed, map_of, sized_bytes, values_document, values_in
from imarium.formats.registers import PcrIndex
from imarium.formats.snp import MAX_CERTIFICATE_TABLE, REPORT_SIZE
from imarium.formats.software import MAX_STATEMENT
from imarium.formats.tdx import MAX_QUOTE_SIZE
from imarium.formats.tpm import PcrValues
from imarium.hashes import HashAlgorithm

__all__ = [
    "ROOT_PARTS",
    "CcaPart",
    "RootPart",
    "SnpPart",
    "SoftwarePart",
    "TdxPart",
    "TpmPart",
    "VirtccaPart",
    "quoted_part",
    "root_part",
]

_MAX_STRUCTURE = 4096
"""Largest TPM structure, signature or key accepted, in bytes: well above any device's."""

_BOOT_PCRS = tuple(map(str, range(10)))
"""The PCRs boot_aggregate is taken over, so that a verifier can tell whether it is right."""


class RootPart(Protocol):
    """The root of trust's part of evidence. ``kind`` is its name there.

    ``native`` names the member with the device's statement. ``nonce_hashed`` says that the device is asked with the
    nonce's SHA-512 digest. Where a statement is about a selection of registers, which have the numbers of the list's
    register column, ``selected`` are those to select beside the list's, and the part has ``values``; it is empty
    where the statement is about every register.
    """

    kind: ClassVar[str]
    native: ClassVar[str]
    nonce_hashed: ClassVar[bool]
    selected: ClassVar[tuple[str, ...]]

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""

    @classmethod
    def from_document(cls, document: object) -> Self:
        """The part in a document, ``kind`` included. Raises MalformedEvidence."""


@dataclass(frozen=True, slots=True)
class TpmPart:
    """What a TPM says: TPMS_ATTEST, TPMT_SIGNATURE and TPM2B_PUBLIC as the TPM made them, and the PCR values."""

    kind: ClassVar[str] = "tpm"
    native: ClassVar[str] = "quote"
    nonce_hashed: ClassVar[bool] = False
    selected: ClassVar[tuple[str, ...]] = _BOOT_PCRS
    quote: bytes
    signature: bytes
    ak: bytes
    values: PcrValues

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""
        members: dict[str, object] = {"quote": self.quote, "signature": self.signature, "ak": self.ak}
        return members | {"values": values_document(self.values)}

    @classmethod
    def from_document(cls, document: object) -> "TpmPart":
        """The part in a document. Raises MalformedEvidence."""
        root = map_of(document, "root", {"kind", "quote", "signature", "ak", "values"})
        quote, signature, ak = (sized_bytes(root, name, _MAX_STRUCTURE) for name in ("quote", "signature", "ak"))
        return cls(quote, signature, ak, values_in(root["values"]))


@dataclass(frozen=True, slots=True)
class TdxPart:
    """What a TD says: its quote, and the CC event log of its firmware where IMA's register is one firmware extends."""

    kind: ClassVar[str] = "tdx"
    native: ClassVar[str] = "quote"
    nonce_hashed: ClassVar[bool] = True
    selected: ClassVar[tuple[str, ...]] = ()
    quote: bytes
    event_log: bytes | None = None

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""
        return {"quote": self.quote} | ({} if self.event_log is None else {"event_log": self.event_log})

    @classmethod
    def from_document(cls, document: object) -> "TdxPart":
        """The part in a document. Raises MalformedEvidence."""
        root = map_of(document, "root", {"kind", "quote"}, {"event_log"})
        log = sized_bytes(root, "event_log", MAX_LOG_SIZE) if "event_log" in root else None
        return cls(sized_bytes(root, "quote", MAX_QUOTE_SIZE), log)


@dataclass(frozen=True, slots=True)
class CcaPart:
    """What a realm of Arm CCA says: its token."""

    kind: ClassVar[str] = "cca"
    native: ClassVar[str] = "token"
    nonce_hashed: ClassVar[bool] = True
    selected: ClassVar[tuple[str, ...]] = ()
    token: bytes

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""
        return {"token": self.token}

    @classmethod
    def from_document(cls, document: object) -> Self:
        """The part in a document. Raises MalformedEvidence."""
        return cls(sized_bytes(map_of(document, "root", {"kind", "token"}), "token", MAX_TOKEN))


@dataclass(frozen=True, slots=True)
class VirtccaPart(CcaPart):
    """What a confidential VM of Huawei VirtCCA says: its token, in the new or the old form."""

    kind: ClassVar[str] = "virtcca"


@dataclass(frozen=True, slots=True)
class SnpPart:
    """What a guest of SEV-SNP with an SVSM says.

    That is what its vTPM says, as in :class:`TpmPart`; the ``report`` of the SVSM's vTPM service with its
    ``manifest``; and the host's table of ``certificates``, which may be empty.
    """

    kind: ClassVar[str] = "snp"
    native: ClassVar[str] = "quote"
    nonce_hashed: ClassVar[bool] = True
    selected: ClassVar[tuple[str, ...]] = _BOOT_PCRS
    tpm: TpmPart
    report: bytes
    manifest: bytes
    certificates: bytes

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""
        members = {"report": self.report, "manifest": self.manifest, "certificates": self.certificates}
        return {**self.tpm.to_document(), **members}

    @classmethod
    def from_document(cls, document: object) -> "SnpPart":
        """The part in a document. Raises MalformedEvidence."""
        of_tpm, own = {"kind", "quote", "signature", "ak", "values"}, ("report", "manifest", "certificates")
        root = map_of(document, "root", {*of_tpm, *own})
        tpm = TpmPart.from_document({name: root[name] for name in of_tpm})
        limits = (REPORT_SIZE, _MAX_STRUCTURE, MAX_CERTIFICATE_TABLE)
        report, manifest, table = (sized_bytes(root, name, most) for name, most in zip(own, limits, strict=True))
        return cls(tpm, report, manifest, table)


@dataclass(frozen=True, slots=True)
class SoftwarePart:
    """What a software root of trust says: :mod:`imarium.formats.software`. It is worth what the key's keeper is."""

    kind: ClassVar[str] = "software"
    native: ClassVar[str] = "statement"
    nonce_hashed: ClassVar[bool] = False
    selected: ClassVar[tuple[str, ...]] = ()
    statement: bytes
    signature: bytes
    key: bytes

    def to_document(self) -> Mapping[str, object]:
        """The members beside ``kind``."""
        return {"statement": self.statement, "signature": self.signature, "key": self.key}

    @classmethod
    def from_document(cls, document: object) -> "SoftwarePart":
        """The part in a document. Raises MalformedEvidence."""
        root = map_of(document, "root", {"kind", "statement", "signature", "key"})
        statement = sized_bytes(root, "statement", MAX_STATEMENT)
        signature, key = (sized_bytes(root, name, _MAX_STRUCTURE) for name in ("signature", "key"))
        return cls(statement, signature, key)


ROOT_PARTS: Mapping[str, type[RootPart]] = {
    part.kind: part for part in (TpmPart, TdxPart, CcaPart, VirtccaPart, SnpPart, SoftwarePart)
}
"""The kinds of root of trust that evidence can carry."""


def root_part(document: object) -> RootPart:
    """The root of trust's part in a document. Raises MalformedEvidence, also for a kind nobody knows."""
    kind = document.get("kind") if isinstance(document, dict) else None
    part = ROOT_PARTS.get(kind) if isinstance(kind, str) else None
    if part is None:
        found = describe(document) if kind is None else describe(kind)
        raise malformed(f"a root of trust of kind {', '.join(ROOT_PARTS)}", found)
    return part.from_document(document)


def quoted_part(
    kind: str,
    statement: bytes,
    beside: Mapping[str, bytes],
    values: Mapping[str, Mapping[HashAlgorithm, bytes]],
) -> RootPart:
    """The part that a device's quote makes: its statement, what goes with it by name, values by register's name.

    Raises MalformedEvidence for what is no part of this kind.
    """
    part = ROOT_PARTS.get(kind)
    document: dict[str, object] = {**beside, "kind": kind}
    if part is not None:
        document[part.native] = statement
        if part.selected:
            document["values"] = values_document(_by_bank(values))
    return root_part(document)


def _by_bank(values: Mapping[str, Mapping[HashAlgorithm, bytes]]) -> PcrValues:
    banks: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {}
    for register, of in values.items():
        for bank, value in of.items():
            banks.setdefault(bank, {})[PcrIndex(int(register))] = value
    return banks
