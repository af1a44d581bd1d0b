"""Evidence: what a root of trust says, and records of the measurement list, in one file.

Deterministic CBOR (RFC 8949, section 4.2.1) as ``docs/evidence.cddl`` describes it. What a signature covers stays in
its native encoding. Decoding gives claims; only an appraisal gives facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from imarium.formats.fields import ByteOrder
from imarium.formats.members import (
    MalformedEvidence,
    bank_named,
    count_in,
    decode_document,
    describe,
    encode_document,
    malformed,
    map_of,
    typed,
)
from imarium.formats.records import ListLayout
from imarium.formats.roots import CcaPart, RootPart, SnpPart, SoftwarePart, TdxPart, TpmPart, VirtccaPart, root_part

__all__ = [
    "EVIDENCE_TYPE",
    "EVIDENCE_VERSION",
    "MAX_EVIDENCE",
    "CcaPart",
    "Evidence",
    "ListPart",
    "MalformedEvidence",
    "RootPart",
    "SnpPart",
    "SoftwarePart",
    "TdxPart",
    "TpmPart",
    "VirtccaPart",
]

EVIDENCE_TYPE = "imarium-evidence"
EVIDENCE_VERSION = 1
MAX_EVIDENCE = 1 << 30
"""Largest evidence accepted, in bytes."""

_Root_co = TypeVar("_Root_co", bound=RootPart, covariant=True)


@dataclass(frozen=True, slots=True)
class ListPart:
    """Records of a log from number ``first`` on: ``count`` of them, as they stand in a binary list of ``layout``."""

    first: int
    count: int
    layout: ListLayout
    records: bytes


@dataclass(frozen=True, slots=True)
class Evidence(Generic[_Root_co]):
    """One piece of evidence. What ``root`` is tells the kind of the root of trust."""

    root: _Root_co
    log: ListPart

    def encode(self) -> bytes:
        """The evidence as deterministic CBOR."""
        log = self.log
        return encode_document(
            {
                "type": EVIDENCE_TYPE,
                "version": EVIDENCE_VERSION,
                "root": {"kind": self.root.kind, **self.root.to_document()},
                "list": {
                    "first": log.first,
                    "count": log.count,
                    "digest": log.layout.digest.name,
                    "byte_order": log.layout.byte_order,
                    "records": log.records,
                },
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Evidence[RootPart]":
        """The evidence in ``data``, to its last byte. Raises MalformedEvidence."""
        if len(data) > MAX_EVIDENCE:
            raise malformed(f"at most {MAX_EVIDENCE} bytes", f"{len(data)} bytes")
        evidence = _evidence(decode_document(data))
        if evidence.encode() != data:
            raise malformed("deterministic CBOR (RFC 8949, section 4.2.1)", "another encoding of the same content")
        return evidence


def _evidence(document: object) -> Evidence[RootPart]:
    top = map_of(document, "evidence", {"type", "version", "root", "list"})
    if top["type"] != EVIDENCE_TYPE or top["version"] != EVIDENCE_VERSION:
        found = f"{describe(top['type'])} {describe(top['version'])}"
        raise malformed(f"{EVIDENCE_TYPE} version {EVIDENCE_VERSION}", found)
    root = root_part(top["root"])
    log = map_of(top["list"], "list", {"first", "count", "digest", "byte_order", "records"})
    part = ListPart(count_in(log, "first"), count_in(log, "count"), _layout(log), typed(log, "records", bytes))
    return Evidence(root, part)


def _layout(log: Mapping[str, object]) -> ListLayout:
    order: ByteOrder
    match log["byte_order"]:
        case "little" | "big" as order:
            pass
        case other:
            raise malformed("byte_order to be little or big", describe(other))
    return ListLayout(bank_named(log["digest"]), order)
