"""What evidence is written in: deterministic CBOR, decoded within bounds, and its members by their type.

Nothing but maps, texts, byte strings and unsigned numbers is decoded, and only in the one encoding of RFC 8949,
section 4.2.1. Decoding gives claims.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

import cbor2

from imarium import hashes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = [
    "BankValues",
    "MalformedEvidence",
    "bank_named",
    "count_in",
    "decode_document",
    "describe",
    "encode_document",
    "malformed",
    "map_of",
    "sized_bytes",
    "typed",
    "values_document",
    "values_in",
]

BankValues = Mapping[HashAlgorithm, Mapping[PcrIndex, bytes]]
"""Register values by bank and register."""

_MAX_DEPTH = 8
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


def encode_document(document: Mapping[str, object]) -> bytes:
    """The document as deterministic CBOR."""
    return cbor2.dumps(document, canonical=True)


def decode_document(data: bytes) -> object:
    """The one item in ``data``, to its last byte. Raises MalformedEvidence."""
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
        raise malformed("CBOR", " ".join(str(error).split())[:80]) from error
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
            raise malformed(f"at most {_MAX_ITEMS} items", "more", at=position)
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
        raise malformed(f"one of {wanted}", f"an item of major type {major}", at=position)
    if information > _LONGEST:
        raise malformed("an item of known length", "an indefinite or reserved length", at=position)
    start = position + 1
    if information < _IN_PLACE:
        return major, information, start
    end = start + (1 << information - _IN_PLACE)
    if end > len(data):
        raise _cut_short(data)
    return major, int.from_bytes(data[start:end], "big"), end


def map_of(value: object, name: str, members: Collection[str], optional: Collection[str] = ()) -> Mapping[str, object]:
    """The map that ``value`` is, with just these members. Raises MalformedEvidence."""
    if not isinstance(value, dict) or not set(members) <= value.keys() <= {*members, *optional}:
        raise malformed(f"{name} to be a map of {', '.join(sorted(members))}", describe(value))
    return value


def typed(container: Mapping[str, object], name: str, kind: type[_T]) -> _T:
    """The member ``name``, which must be of this type. Raises MalformedEvidence."""
    value = container[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise malformed(f"{name} to be {kind.__name__}", describe(value))
    return value


def sized_bytes(container: Mapping[str, object], name: str, limit: int) -> bytes:
    """The byte string ``name`` of at most ``limit`` bytes. Raises MalformedEvidence."""
    value = typed(container, name, bytes)
    if len(value) > limit:
        raise malformed(f"{name} of at most {limit} bytes", f"{len(value)} bytes")
    return value


def count_in(container: Mapping[str, object], name: str) -> int:
    """The member ``name``, a number below 2^62. Raises MalformedEvidence."""
    value = typed(container, name, int)
    if not 0 <= value < 1 << 62:
        raise malformed(f"{name} to be a count", describe(value))
    return value


def bank_named(name: object) -> HashAlgorithm:
    """The algorithm a bank is named by. Raises MalformedEvidence."""
    try:
        bank = hashes.by_name(name if isinstance(name, str) else "")
    except UsageError as error:
        raise malformed("the name of a bank", describe(name)) from error
    if not bank.tcg_id:
        raise malformed("the name of a bank", bank.name)
    return bank


def values_document(values: BankValues) -> dict[str, dict[str, bytes]]:
    """Register values as a document: by the name of the bank, and the register in decimal."""
    return {bank.name: {str(pcr): value for pcr, value in of_bank.items()} for bank, of_bank in values.items()}


def values_in(document: object) -> dict[HashAlgorithm, dict[PcrIndex, bytes]]:
    """The register values in a document. Raises MalformedEvidence."""
    if not isinstance(document, dict) or not document:
        raise malformed("values to be a map of banks", describe(document))
    values: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {}
    for name, registers in document.items():
        bank = bank_named(name)
        if not isinstance(registers, dict) or not registers:
            raise malformed(f"the {bank.name} bank to be a map of registers", describe(registers))
        values[bank] = {_pcr(pcr): _value(value, bank.size) for pcr, value in registers.items()}
    return values


def _pcr(name: object) -> PcrIndex:
    if not isinstance(name, str) or not name.isascii() or not name.isdigit() or len(name) > 2:
        raise malformed("a register number", describe(name))
    if int(name) >= LIST_PCRS:
        raise malformed(f"a register below {LIST_PCRS}", name)
    return PcrIndex(int(name))


def _value(value: object, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise malformed(f"a register value of {size} bytes", describe(value))
    return value


def describe(value: object) -> str:
    """A few words for what was found."""
    match value:
        case dict():
            return f"a map of {len(value)}"
        case bytes():
            return f"{len(value)} bytes"
        case str():
            return repr(value[:40])
        case _:
            return repr(value)[:40]


def malformed(expected: str, found: str, *, at: int = 0) -> MalformedEvidence:
    """The error for what is not as described."""
    return MalformedEvidence("malformed", offset=at, expected=expected, found=found)


def _cut_short(data: bytes) -> MalformedEvidence:
    found = "the end: the file is cut short"
    return MalformedEvidence("truncated", offset=len(data), expected="more bytes", found=found)
