"""Records of a list as an answer's body: as they are kept, or made into text, JSON or another bank's list. No HTTP.

Kept bytes are copied. Everything else is made record by record, a block at a time, so that an answer of any length
takes the memory of a block.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice

from imarium.custody import Log, Whole
from imarium.errors import UsageError
from imarium.formats.ascii import ascii_line
from imarium.formats.document import record_document
from imarium.formats.records import ListLayout, Record, encode_record, read_records
from imarium.hashes import HashAlgorithm

__all__ = ["Extent", "Form", "Source", "kept_source", "whole_source"]

_BLOCK = 1 << 16
_PIECE = 1 << 22
"""Bytes of the list that are read in one go, unless told; they come in blocks."""


class Form(StrEnum):
    """How records are written."""

    BINARY = "binary"
    """The kernel's binary list."""
    ASCII = "ascii"
    """The kernel's text."""
    JSON = "json"
    """One JSON document."""

    @property
    def media_type(self) -> str:
        """The content type."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {Form.BINARY: "application/octet-stream", Form.ASCII: "text/plain", Form.JSON: "application/json"}


@dataclass(frozen=True, slots=True)
class Source:
    """A list at one moment: ``records`` records in ``size`` bytes, of which ``kept`` records are kept.

    ``read`` gives the bytes between two offsets, ``place`` a record's offset. ``identity`` tells this list from others
    that do not begin with the same records.
    """

    identity: str
    layout: ListLayout
    padded: frozenset[HashAlgorithm]
    records: int
    size: int
    kept: int
    read: Callable[[int, int], Iterator[bytes]] = field(repr=False)
    place: Callable[[int], int] = field(repr=False)

    def extent(self, first: int, last: int, form: Form, bank: HashAlgorithm) -> "Extent":
        """The records from number ``first`` to before ``last`` in a form. Raises UsageError if they are not there."""
        if not first <= last <= self.records:
            raise UsageError(f"there are {self.records} records; none from {first} to {last}")
        start = self.place(first)
        end = self.size if last == self.records else self.place(last)
        return Extent(self, first, last, start, end, form, bank)


@dataclass(frozen=True, slots=True)
class Extent:
    """Records ``first`` to before ``last`` of a source, its bytes ``start`` to before ``end``, in a form and a bank."""

    source: Source
    first: int
    last: int
    start: int
    end: int
    form: Form
    bank: HashAlgorithm

    @property
    def is_kept(self) -> bool:
        """Whether the body is the list's own bytes."""
        return self.form is Form.BINARY and self.bank == self.source.layout.digest

    @property
    def size(self) -> int | None:
        """The size of the body in bytes; None where it is only known once it is made."""
        if self.form is not Form.BINARY:
            return None
        return self.end - self.start + (self.last - self.first) * (self.bank.size - self.source.layout.digest.size)

    @property
    def tag(self) -> str:
        """What tells this body from every other: an entity tag."""
        return f'"{self.source.identity}-{self.first}-{self.last}-{self.bank.name}-{self.form}"'

    def blocks(
        self, skip: int = 0, size: int | None = None, *, piece: Callable[[], int] = lambda: _PIECE
    ) -> Generator[bytes, None, None]:
        """The body; of kept bytes, ``size`` from ``skip`` on, and at most ``piece`` at a time.

        Raises MalformedRecord, MissingComponent.
        """
        if not self.is_kept:
            yield from self._made()
            return
        at = self.start + skip
        end = self.end if size is None else at + size
        while at < end:
            until = min(end, at + piece())
            yield from self.source.read(at, until)
            at = until

    def _made(self) -> Iterator[bytes]:
        if self.form is Form.JSON:
            head = {"from": self.first, "to": self.last, "bank": self.bank.name}
            opening = json.dumps(head).encode()[:-1] + b', "records": ['
            return chain([opening], _gathered(self._documents()), [b"]}\n"])
        write = ascii_line if self.form is Form.ASCII else encode_record
        return _gathered(map(write, self._records()))

    def _documents(self) -> Iterator[bytes]:
        separator = b"\n"
        for record in self._records():
            yield separator + json.dumps(record_document(record)).encode()
            separator = b",\n"

    def _records(self) -> Iterator[Record]:
        kept = self.source.layout
        layout = ListLayout(self.bank, kept.byte_order, self.bank in self.source.padded)
        blocks = self.source.read(self.start, self.end)
        for record in read_records(blocks, kept, first=self.first, offset=self.start):
            yield record.in_column(layout)


def kept_source(log: Log, records: int, size: int) -> Source:
    """The first ``records`` records of a log, in ``size`` bytes."""
    identity = log.meta.identity.hex()
    return Source(identity, log.layout, log.meta.padded, records, size, records, log.blocks, log.offset_of)


def whole_source(whole: Whole) -> Source:
    """What is kept and what the kernel has behind it."""
    offsets = array("Q", (record.offset for record in read_records([whole.pending], whole.layout, offset=whole.size)))
    log, pending = whole.log, whole.pending

    def read(start: int, end: int) -> Iterator[bytes]:
        if log is not None and start < whole.size:
            yield from log.blocks(start, min(end, whole.size))
        if end > whole.size:
            yield pending[max(0, start - whole.size) : end - whole.size]

    def place(number: int) -> int:
        if number >= whole.records:
            return [*islice(offsets, number - whole.records, number - whole.records + 1), whole.size + len(pending)][0]
        return log.offset_of(number) if log is not None else 0

    padded = log.meta.padded if log is not None else frozenset()
    base = log.meta.identity.hex() if log is not None else "new"
    identity = f"{base}-{hashlib.sha256(pending).hexdigest()[:16]}" if pending else base
    total = whole.records + len(offsets)
    return Source(identity, whole.layout, padded, total, whole.size + len(pending), whole.records, read, place)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks worth sending."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _BLOCK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
