"""The index of a log: where every 1024th record begins, and the registers there. Made from the list, and by it again.

A file of a header and slots of one size, so that the slot of a record is found without reading the others. The format
is described in ``docs/store.md``. A slot has a sum over the header, its number and its content; the header names the
log it is about. Nothing depends on the index but how long a look takes.
"""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from imarium import durable, hashes
from imarium.chain import ChainState, initial_value
from imarium.custody.marks import STRIDE, SUM_BYTES, Mark
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import IMA_PCR, LIST_PCRS, PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = ["INDEX_FILE", "Index", "IndexHeader", "read_index"]

INDEX_FILE = "index"

_MAGIC = b"imarium-index\0\0\1"
"""The last byte is the format's version."""
_HEAD = struct.Struct(f"<{len(_MAGIC)}s16sIBBBB")
_OFFSET = struct.Struct("<Q")
_NUMBER = struct.Struct("<Q")
_MAX_BANKS = 16
_MAX_HEADER = _HEAD.size + 2 * _MAX_BANKS + LIST_PCRS + SUM_BYTES
_PATIENCE = 8
"""How many damaged slots are passed over, from the wanted one back, before the index is not used."""


@dataclass(frozen=True, slots=True)
class IndexHeader:
    """What an index is about: ``log`` is the identity of the log, ``banks`` and ``registers`` have values in each slot.

    ``known`` is not set where the log's start is unknown; then no register has a value.
    """

    log: bytes
    banks: tuple[HashAlgorithm, ...]
    registers: tuple[PcrIndex, ...] = (IMA_PCR,)
    known: bool = True

    def encode(self) -> bytes:
        """The header's bytes."""
        head = _HEAD.pack(_MAGIC, self.log, STRIDE, len(self.banks), len(self.registers), self.known, 0)
        head += b"".join(bank.tcg_id.to_bytes(2, "little") for bank in self.banks) + bytes(self.registers)
        return head + _sum(head)

    @classmethod
    def decode(cls, data: bytes) -> "IndexHeader":
        """The header that ``data`` begins with. Raises MalformedInput."""
        if len(data) < _HEAD.size:
            raise _malformed(0, f"a header of at least {_HEAD.size} bytes", f"{len(data)} bytes")
        magic, log, stride, banks, registers, known, _ = _HEAD.unpack_from(data)
        end = _HEAD.size + 2 * banks + registers
        if magic != _MAGIC or stride != STRIDE or known > 1:
            raise _malformed(0, "the header of an index of this version", repr(data[: len(_MAGIC)]))
        if data[end : end + SUM_BYTES] != _sum(data[:end]):
            raise _malformed(end, "the sum of the header", "another")
        ids = struct.unpack_from(f"<{banks}H", data, _HEAD.size)
        found = tuple(bank for identifier in ids if (bank := hashes.by_tcg_id(identifier)) is not None)
        numbers = data[end - registers : end]
        header = cls(log, found, tuple(map(PcrIndex, numbers)), bool(known))
        if any(number >= LIST_PCRS for number in numbers) or header.encode() != data[: end + SUM_BYTES]:
            raise _malformed(_HEAD.size, "banks and registers that a list can have", "others")
        return header

    @property
    def size(self) -> int:
        """The header's size in bytes."""
        return _HEAD.size + 2 * len(self.banks) + len(self.registers) + SUM_BYTES

    @property
    def slot_size(self) -> int:
        """The size of a slot in bytes."""
        values = len(self.registers) * sum(bank.size for bank in self.banks) if self.known else 0
        return _OFFSET.size + 2 * SUM_BYTES + values

    def covers(self, mark: Mark) -> bool:
        """Whether the mark's registers have a place in a slot."""
        return mark.state is None or not mark.state.values.keys() - set(self.registers)

    def encode_slot(self, mark: Mark) -> bytes:
        """The slot of a mark. Raises UsageError for one whose registers it has no place for."""
        if not self.covers(mark) or (mark.state is None) == self.known:
            raise UsageError("the index has no place for these registers")
        parts = [_OFFSET.pack(mark.offset), mark.digest]
        if mark.state is not None:
            parts += [mark.state.value(pcr, bank) for pcr in self.registers for bank in self.banks]
        data = b"".join(parts)
        return data + self._sum_of(mark.records, data)

    def decode_slot(self, number: int, data: bytes) -> Mark:
        """The mark in slot ``number``. Raises MalformedInput."""
        body, records = data[:-SUM_BYTES], (number + 1) * STRIDE
        at = self.size + number * self.slot_size
        if len(data) != self.slot_size or data[-SUM_BYTES:] != self._sum_of(records, body):
            raise _malformed(at, f"slot {number} with its sum", "another")
        (offset,) = _OFFSET.unpack_from(body)
        digest, position = body[_OFFSET.size : _OFFSET.size + SUM_BYTES], _OFFSET.size + SUM_BYTES
        if not self.known:
            return Mark(records, offset, None, digest)
        values: dict[PcrIndex, dict[HashAlgorithm, bytes]] = {}
        for pcr in self.registers:
            for bank in self.banks:
                values.setdefault(pcr, {})[bank] = body[position : position + bank.size]
                position += bank.size
        extended = {pcr: banks for pcr, banks in values.items() if _was_extended(pcr, banks)}
        return Mark(records, offset, ChainState(records, extended), digest)

    def _sum_of(self, records: int, body: bytes) -> bytes:
        return _sum(self.encode() + _NUMBER.pack(records) + body)


class Index:
    """An index that was opened: ``marks`` is how many slots it has. Reads the file anew for each mark."""

    def __init__(self, path: Path, header: IndexHeader) -> None:
        self.path = path
        self.header = header

    @property
    def marks(self) -> int:
        """How many whole slots the file has now. Raises MissingComponent."""
        return max(0, durable.size_of(self.path) - self.header.size) // self.header.slot_size

    @property
    def torn(self) -> int:
        """How many bytes of a slot that is not whole the file ends with. Raises MissingComponent."""
        return max(0, durable.size_of(self.path) - self.header.size) % self.header.slot_size

    def mark(self, number: int) -> Mark:
        """The mark after ``(number + 1) * STRIDE`` records. Raises MalformedInput, MissingComponent."""
        start = self.header.size + number * self.header.slot_size
        data = durable.read_at(self.path, start, self.header.slot_size)
        return self.header.decode_slot(number, data)

    def before(self, records: int, size: int) -> Mark | None:
        """The last good mark with at most ``records`` records and ``size`` bytes before it; None if there is none.

        Raises MissingComponent.
        """
        last = min(records // STRIDE, self.marks) - 1
        for number in range(last, max(-1, last - _PATIENCE), -1):
            try:
                mark = self.mark(number)
            except MalformedInput:
                continue
            if mark.offset <= size:
                return mark
        return None


def read_index(path: Path, log: bytes | None) -> Index | None:
    """The index in a file; None if there is none, or it is about another log than ``log``, where that is known.

    Raises MalformedInput for a file that is no index, MissingComponent.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # reading says what it is
    header = IndexHeader.decode(durable.read_at(path, 0, _MAX_HEADER))
    return Index(path, header) if log in {None, header.log} else None


def _was_extended(pcr: PcrIndex, banks: dict[HashAlgorithm, bytes]) -> bool:
    """Whether a register has another value than it began with; IMA's own always counts, as in a replay."""
    return pcr == IMA_PCR or any(value != initial_value(pcr, bank) for bank, value in banks.items())


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:SUM_BYTES]


def _malformed(offset: int, expected: str, found: str) -> MalformedInput:
    return MalformedInput("index", offset=offset, expected=expected, found=found)
