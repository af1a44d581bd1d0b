"""Marks in a list: every so many records, where the next one begins and what the registers hold there.

Pure: blocks of bytes in, marks out. The index of a log is made of them, and a check of the log makes them again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imarium.chain import ChainState, Replay
from imarium.formats.records import Frame, ListLayout, RecordFramer, frame_size
from imarium.hashes import HashAlgorithm

__all__ = ["STRIDE", "SUM_BYTES", "Mark", "Marker", "Stretch", "agree"]

STRIDE = 1024
"""How many records lie between two marks."""

SUM_BYTES = 16
"""Of a sum in the index: the first bytes of a SHA-256."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a list: ``records`` lie before it, in ``offset`` bytes.

    ``state`` is the replay up to it, None where the list's start is unknown. ``digest`` is a sum of the bytes between
    the mark before and this one.
    """

    records: int = 0
    offset: int = 0
    state: ChainState | None = field(default_factory=ChainState)
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The records from one mark to the next, ``mark``; fewer than usual at the end of a list.

    ``bad_digests`` are the numbers of those whose template digest is not that of their data.
    """

    mark: Mark
    bad_digests: tuple[int, ...]


def agree(left: ChainState | None, right: ChainState | None) -> bool:
    """Whether two states say the same where both say something."""
    if left is None or right is None:
        return True
    return left.records == right.records and all(
        right.values[pcr][bank] == value
        for pcr, banks in left.values.items()
        for bank, value in banks.items()
        if pcr in right.values and bank in right.values[pcr]
    )


class Marker:
    """Makes marks of a list that arrives in blocks, from the mark ``start`` on.

    ``banks`` are replayed; ``padded`` are those among them that get padded SHA-1 digests. Holds no more than a block
    and one unfinished record.
    """

    def __init__(
        self,
        layout: ListLayout,
        banks: Sequence[HashAlgorithm],
        *,
        padded: Iterable[HashAlgorithm] = (),
        start: Mark | None = None,
        stride: int = STRIDE,
    ) -> None:
        self._layout = layout
        self._banks = banks
        self._padded = frozenset(padded).intersection(banks)
        self._stride = stride
        self._last = start or Mark()
        self._framer = RecordFramer(layout, first=self._last.records, offset=self._last.offset)
        self._read = self._last.offset
        self._begin()

    @property
    def last(self) -> Mark:
        """The newest mark made."""
        return self._last

    @property
    def doubtful(self) -> tuple[int, ...]:
        """The records since the last mark whose template digest is not that of their data."""
        return self._replay.result().bad_digests

    def feed(self, block: bytes) -> Iterator[Stretch]:
        """The stretches that ``block`` completes. Raises MalformedRecord after those before the broken record."""
        offset, frames = self._framer.offset, self._framer.feed(block)
        view = memoryview(block)
        while self._count + len(frames) >= self._stride:
            part, frames = frames[: self._stride - self._count], frames[self._stride - self._count :]
            self._take(part)
            offset += sum(map(frame_size, part))
            self._hash.update(view[: offset - self._read])
            view, self._read = view[offset - self._read :], offset
            yield self._end(offset)
        self._take(frames)
        self._hash.update(view)
        self._read += len(view)
        self._framer.check()

    def finish(self) -> Stretch | None:
        """The records behind the last mark, None if there are none. Raises MalformedRecord if one is not whole."""
        self._framer.finish()
        return self._end(self._framer.offset) if self._count else None

    def _begin(self) -> None:
        start = self._last.state or ChainState(self._last.records)
        self._replay = Replay(self._layout, self._banks, padded=self._padded, start=start)
        self._hash = hashlib.sha256()
        self._count = 0

    def _take(self, frames: Sequence[Frame]) -> None:
        self._replay.feed(frames)
        self._count += len(frames)

    def _end(self, offset: int) -> Stretch:
        result = self._replay.result()
        state = result.state if self._last.state is not None else None
        digest = self._hash.digest()[:SUM_BYTES]
        self._last = Mark(self._last.records + self._count, offset, state, digest)
        self._begin()
        return Stretch(self._last, result.bad_digests)
