"""Evidence: a quote, the register values it covers and records of the measurement list, in one file.

Deterministic CBOR (RFC 8949, section 4.2.1) as ``docs/evidence.cddl`` describes it. What a signature covers stays in
its native encoding. Decoding gives claims; only an appraisal gives facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import cbor2

from imarium import hashes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.fields import ByteOrder
from imarium.formats.records import ListLayout
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.tpm import PcrValues
from imarium.hashes import HashAlgorithm

__all__ = ["EVIDENCE_TYPE", "EVIDENCE_VERSION", "MAX_EVIDENCE", "Evidence", "ListPart", "MalformedEvidence", "TpmPart"]

EVIDENCE_TYPE = "imarium-evidence"
EVIDENCE_VERSION = 1
MAX_EVIDENCE = 1 << 30
"""Largest evidence accepted, in bytes."""

_MAX_DEPTH = 8
_MAX_STRUCTURE = 4096
"""Largest TPM structure accepted, in bytes: well above any TPM's."""

_MAX_ITEMS = 4096
"""Most CBOR items accepted: more than all banks with all registers need."""

_NUMBER, _BYTES, _TEXT, _MAP = 0, 2, 3, 5
_ITEM_NAMES = {_NUMBER: "unsigned integer", _BYTES: "byte string", _TEXT: "text", _MAP: "map"}
"""The major types that evidence uses."""
_IN_PLACE, _LONGEST = 24, 27
"""Below the first, an argument is in the item's first byte; the second announces one of 8 bytes."""

_T = TypeVar("_T")


class MalformedEvidence(MalformedInput):
    """Evidence that is cut short (``truncated``), goes on behind its end (``trailing``) or is not evidence."""

    def __init__(self, fault: str, *, offset: int, expected: str, found: str) -> None:
        self.fault = fault
        super().__init__("evidence", offset=offset, expected=expected, found=found)


@dataclass(frozen=True, slots=True)
class TpmPart:
    """What a TPM says: TPMS_ATTEST, TPMT_SIGNATURE and TPM2B_PUBLIC as the TPM made them, and the PCR values."""

    quote: bytes
    signature: bytes
    ak: bytes
    values: PcrValues


@dataclass(frozen=True, slots=True)
class ListPart:
    """Records of a log from number ``first`` on: ``count`` of them, as they stand in a binary list of ``layout``."""

    first: int
    count: int
    layout: ListLayout
    records: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence."""

    root: TpmPart
    log: ListPart

    def encode(self) -> bytes:
        """The evidence as deterministic CBOR."""
        return cbor2.dumps(self._document(), canonical=True)

    def _document(self) -> dict[str, object]:
        root, log = self.root, self.log
        return {
            "type": EVIDENCE_TYPE,
            "version": EVIDENCE_VERSION,
            "root": {
                "kind": "tpm",
                "quote": root.quote,
                "signature": root.signature,
                "ak": root.ak,
                "values": {
                    bank.name: {str(pcr): value for pcr, value in values.items()}
                    for bank, values in root.values.items()
                },
            },
            "list": {
                "first": log.first,
                "count": log.count,
                "digest": log.layout.digest.name,
                "byte_order": log.layout.byte_order,
                "records": log.records,
            },
        }

    @classmethod
    def decode(cls, data: bytes) -> "Evidence":
        """The evidence in ``data``, to its last byte. Raises MalformedEvidence."""
        if len(data) > MAX_EVIDENCE:
            raise _malformed(f"at most {MAX_EVIDENCE} bytes", f"{len(data)} bytes")
        evidence = _evidence(_decode_cbor(data))
        if evidence.encode() != data:
            raise _malformed("deterministic CBOR (RFC 8949, section 4.2.1)", "another encoding of the same content")
        return evidence


def _decode_cbor(data: bytes) -> object:
    _check_items(data)
    try:
        document: object = cbor2.loads(
            data,
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except (cbor2.CBORError, ValueError, OverflowError) as error:
        raise _malformed("CBOR", " ".join(str(error).split())[:80]) from error
    return document


def _check_items(data: bytes) -> None:
    """Walk over the items before any is decoded: maps, texts, byte strings and numbers, few of them, all there.

    Evidence needs nothing else, and a tag, for one, can make a decoder run another parser.
    """
    position, pending, items = 0, 1, 0
    while pending:
        major, argument, start = _item_head(data, position)
        items += 1
        if items > _MAX_ITEMS:
            raise _malformed(f"at most {_MAX_ITEMS} items", "more", at=position)
        pending += 2 * argument - 1 if major == _MAP else -1
        position = start + argument if major in {_BYTES, _TEXT} else start
        if position > len(data):
            raise _cut_short(data)
    if position < len(data):
        found = f"{len(data) - position} more bytes"
        raise MalformedEvidence("trailing", offset=position, expected="the end", found=found)


def _item_head(data: bytes, position: int) -> tuple[int, int, int]:
    """Major type and argument of the item at ``position``, and where its content starts (RFC 8949, section 3)."""
    if position >= len(data):
        raise _cut_short(data)
    major, information = data[position] >> 5, data[position] & 31
    if major not in _ITEM_NAMES:
        wanted = ", ".join(_ITEM_NAMES.values())
        raise _malformed(f"one of {wanted}", f"an item of major type {major}", at=position)
    if information > _LONGEST:
        raise _malformed("an item of known length", "an indefinite or reserved length", at=position)
    start = position + 1
    if information < _IN_PLACE:
        return major, information, start
    end = start + (1 << information - _IN_PLACE)
    if end > len(data):
        raise _cut_short(data)
    return major, int.from_bytes(data[start:end], "big"), end


def _evidence(document: object) -> Evidence:
    top = _map(document, "evidence", {"type", "version", "root", "list"})
    if top["type"] != EVIDENCE_TYPE or top["version"] != EVIDENCE_VERSION:
        found = f"{_describe(top['type'])} {_describe(top['version'])}"
        raise _malformed(f"{EVIDENCE_TYPE} version {EVIDENCE_VERSION}", found)
    root = _map(top["root"], "root", {"kind", "quote", "signature", "ak", "values"})
    if root["kind"] != "tpm":
        raise _malformed("a root of trust of kind tpm", _describe(root["kind"]))
    log = _map(top["list"], "list", {"first", "count", "digest", "byte_order", "records"})
    part = TpmPart(
        quote=_structure(root, "quote"),
        signature=_structure(root, "signature"),
        ak=_structure(root, "ak"),
        values=_values(root["values"]),
    )
    return Evidence(
        part, ListPart(_count(log, "first"), _count(log, "count"), _layout(log), _get(log, "records", bytes))
    )


def _map(value: object, name: str, members: set[str]) -> Mapping[str, object]:
    if not isinstance(value, dict) or value.keys() != members:
        raise _malformed(f"{name} to be a map of {', '.join(sorted(members))}", _describe(value))
    return value


def _get(container: Mapping[str, object], name: str, kind: type[_T]) -> _T:
    value = container[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _malformed(f"{name} to be {kind.__name__}", _describe(value))
    return value


def _structure(container: Mapping[str, object], name: str) -> bytes:
    value = _get(container, name, bytes)
    if len(value) > _MAX_STRUCTURE:
        raise _malformed(f"{name} of at most {_MAX_STRUCTURE} bytes", f"{len(value)} bytes")
    return value


def _count(container: Mapping[str, object], name: str) -> int:
    value = _get(container, name, int)
    if not 0 <= value < 1 << 62:
        raise _malformed(f"{name} to be a count", _describe(value))
    return value


def _layout(log: Mapping[str, object]) -> ListLayout:
    order: ByteOrder
    match log["byte_order"]:
        case "little" | "big" as order:
            pass
        case other:
            raise _malformed("byte_order to be little or big", _describe(other))
    return ListLayout(_bank(log["digest"]), order)


def _bank(name: object) -> HashAlgorithm:
    try:
        bank = hashes.by_name(name if isinstance(name, str) else "")
    except UsageError as error:
        raise _malformed("the name of a bank", _describe(name)) from error
    if not bank.tcg_id:
        raise _malformed("the name of a bank", bank.name)
    return bank


def _values(document: object) -> PcrValues:
    if not isinstance(document, dict) or not document:
        raise _malformed("values to be a map of banks", _describe(document))
    values = {}
    for name, registers in document.items():
        bank = _bank(name)
        if not isinstance(registers, dict) or not registers:
            raise _malformed(f"the {bank.name} bank to be a map of registers", _describe(registers))
        values[bank] = {_pcr(pcr): _value(value, bank.size) for pcr, value in registers.items()}
    return values


def _pcr(name: object) -> PcrIndex:
    if not isinstance(name, str) or not name.isascii() or not name.isdigit() or len(name) > 2:
        raise _malformed("a register number", _describe(name))
    if int(name) >= LIST_PCRS:
        raise _malformed(f"a register below {LIST_PCRS}", name)
    return PcrIndex(int(name))


def _value(value: object, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise _malformed(f"a register value of {size} bytes", _describe(value))
    return value


def _describe(value: object) -> str:
    match value:
        case dict():
            return f"a map of {len(value)}"
        case bytes():
            return f"{len(value)} bytes"
        case str():
            return repr(value[:40])
        case _:
            return repr(value)[:40]


def _malformed(expected: str, found: str, *, at: int = 0) -> MalformedEvidence:
    return MalformedEvidence("malformed", offset=at, expected=expected, found=found)


def _cut_short(data: bytes) -> MalformedEvidence:
    found = "the end: the file is cut short"
    return MalformedEvidence("truncated", offset=len(data), expected="more bytes", found=found)
