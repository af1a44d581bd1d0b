"""The kernel's list, read block by block as often as it is needed, so that it never lies in memory whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imarium.errors import MissingComponent
from imarium.formats.lists import ListKind, detect_form
from imarium.formats.records import ListLayout, RecordFramer
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1

__all__ = ["Listing", "ReadBlocks", "layout_of", "skip", "survey"]

ReadBlocks = Callable[[], Iterator[bytes]]
"""Reads a list from its first byte, in blocks."""

_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Listing:
    """The first ``size`` bytes of a list that only grows: ``records`` whole records, which name ``registers``."""

    read: ReadBlocks
    size: int
    records: int
    registers: frozenset[PcrIndex]

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end`` (default: all), read anew. Raises MissingComponent if some are gone."""
        stop = self.size if end is None else min(end, self.size)
        position = start
        for block in skip(self.read(), start):
            if position >= stop:
                return
            piece = block[: stop - position]
            position += len(piece)
            yield piece
        if position < stop:
            raise MissingComponent(f"the kernel's list ends at byte {position}, but had {self.size}; run again")


def skip(blocks: Iterator[bytes], start: int) -> Iterator[bytes]:
    """The blocks from byte ``start`` on; the first may be a part of one."""
    for block in blocks:
        if start < len(block):
            yield block[start:]
        start = max(0, start - len(block))


def survey(read: ReadBlocks, layout: ListLayout) -> Listing:
    """What a list has now. Raises MalformedRecord for one that cannot be read."""
    framer = RecordFramer(layout)
    named: set[int] = set()
    for block in read():
        named.update(frame[0] for frame in framer.feed(block))
    framer.finish()
    return Listing(read, framer.offset, framer.number, frozenset(map(PcrIndex, named)))


def layout_of(read: ReadBlocks) -> ListLayout:
    """The layout of a list, by its beginning."""
    head = bytearray()
    for block in read():
        head += block
        if len(head) > _HEAD:
            break
    data = bytes(head[:_HEAD])
    return detect_form(data, complete=len(head) <= _HEAD, kind=ListKind.BINARY, digest=SHA1).layout
