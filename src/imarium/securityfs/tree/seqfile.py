"""Reading as the kernel's seq_file does it (fs/seq_file.c): records are made while they are read.

The reader's place is the number of the next record and what is left of the ones before it. A read gives what is left,
then as many whole records as fit on a page and are asked for; so it is short where a record does not fit any more, and
records that come later are seen by whoever reads on. A page grows when one record alone does not fit.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

__all__ = ["PAGE", "Marks", "Records", "SeqFile"]

PAGE = 4096
_MARK = 1024


class Records(Protocol):
    """Records as of one read, by index from 0. ``version`` changes when a record has another index than before."""

    @property
    def version(self) -> object:
        """Compared with the one of the last read."""

    def __call__(self, index: int) -> bytes | None:
        """The record in full, or None behind the last."""


class Marks:
    """Where some records begin, so that not everybody who goes back or far begins at the start."""

    def __init__(self) -> None:
        self._version: object = None
        self._indexes = [0]
        self._places = [0]

    def hold(self, version: object) -> None:
        """Forget them all if the records are others now."""
        if version != self._version:
            self._version, self._indexes, self._places = version, [0], [0]

    def note(self, index: int, place: int) -> None:
        """A record begins at ``place``."""
        if index >= self._indexes[-1] + _MARK:
            self._indexes.append(index)
            self._places.append(place)

    def before(self, place: int) -> tuple[int, int]:
        """The index and place of a record that begins not behind ``place``."""
        found = bisect_right(self._places, place) - 1
        return self._indexes[found], self._places[found]


class SeqFile:
    """One open file's place in its records. It is straight where that is the place its position says.

    ``records`` is called for each read. Those who read the same records in the same form may share ``marks``.
    """

    def __init__(self, records: Callable[[], Records], marks: Marks | None = None) -> None:
        self._records = records
        self._room = PAGE
        self._position = 0
        self._index = 0
        self._left = b""
        self._marks = marks or Marks()
        self._version: object = None
        self._straight = True

    def read(self, position: int, size: int) -> bytes:
        """At most ``size`` bytes from ``position``, which need not be where the last read ended."""
        records = self._records()
        self._marks.hold(records.version)
        if records.version != self._version:
            self._version, self._straight = records.version, False
        if position == 0:
            self._index, self._left, self._straight = 0, b"", True
        if position != self._position:
            self._traverse(records, position)
        taken, self._left = self._left[:size], self._left[size:]
        if not self._left:
            taken += self._fill(records, position + len(taken), size - len(taken))
        self._position = position + len(taken)
        return taken

    def _fill(self, records: Records, position: int, wanted: int) -> bytes:
        """Take records to the page; what is asked for of them, the rest is left."""
        record = records(self._index)
        if record is None:
            return b""
        self._make_room(record)
        page, count = [], 0
        while record is not None and count + len(record) < self._room:
            page.append(record)
            count += len(record)
            self._index += 1
            if count >= wanted:
                break
            record = records(self._index)
        if self._straight:
            self._marks.note(self._index, position + count)
        content = b"".join(page)
        self._left = content[wanted:]
        return content[:wanted]

    def _traverse(self, records: Records, position: int) -> None:
        """Go to where ``position`` is, or behind the last record."""
        self._left = b""
        self._index, start = self._marks.before(position)
        while start < position and (record := records(self._index)) is not None:
            self._make_room(record)
            self._index += 1
            end = start + len(record)
            if end > position:
                self._left = record[position - start :]
            start = end
            self._marks.note(self._index, end)
        self._straight = start >= position

    def _make_room(self, record: bytes) -> None:
        while len(record) >= self._room:
            self._room *= 2
