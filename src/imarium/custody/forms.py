"""A whole list in another form, binary or ASCII and with any bank's template digests, read at any byte.

Where a byte of such a form comes from is known only by making all that is before it. So places are noted on the way,
ever further apart as the list grows, and a read begins at the nearest. Nothing is held but one block and the places.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from imarium.custody.view import WholeList
from imarium.formats.ascii import ascii_line
from imarium.formats.records import ListLayout, Record, encode_record, read_records
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["Form", "FormReader", "Places"]

_BLOCK = 1 << 16
_MOST_PLACES = 1 << 10


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a list: ASCII lines or binary records, with template digests of ``algorithm``."""

    ascii: bool
    algorithm: HashAlgorithm

    @property
    def is_kept(self) -> bool:
        """Whether this is the form the list is kept in."""
        return not self.ascii and self.algorithm == SHA1

    def writer(self, whole: WholeList) -> Callable[[Record], bytes]:
        """What writes a record of ``whole`` in this form. It raises MalformedRecord for broken fields."""
        layout = ListLayout(self.algorithm, whole.layout.byte_order, self.algorithm in whole.padded)
        encode = ascii_line if self.ascii else encode_record
        return lambda record: encode(record.in_column(layout))


@dataclass(slots=True)
class Places:
    """Where records begin, in the form (``made``) and in the list (``source``, with the record's number).

    There are never more than a fixed number: when it is reached, every other one goes and the distance doubles.
    """

    made: list[int] = field(default_factory=lambda: [0])
    source: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    distance: int = _BLOCK

    def note(self, made: int, offset: int, number: int) -> None:
        """Note a place, if it is new and far enough behind the last."""
        if made < self.made[-1] + self.distance:
            return
        self.made.append(made)
        self.source.append((offset, number))
        if len(self.made) == _MOST_PLACES:
            del self.made[1::2], self.source[1::2]
            self.distance *= 2

    def before(self, made: int) -> tuple[int, int, int]:
        """The last place that is not behind byte ``made`` of the form."""
        index = bisect_right(self.made, made) - 1
        return self.made[index], *self.source[index]


class FormReader:
    """Reads a form of a list. ``places`` are those of this form and this list, and are added to."""

    def __init__(self, whole: WholeList, form: Form, places: Places) -> None:
        self._whole = whole
        self._write = form.writer(whole)
        self._places = places
        self._made = 0
        self._ready = bytearray()
        self._next = (0, 0)
        self._records: Iterator[Record] | None = None

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from byte ``offset`` of the form; none at its end.

        Raises MalformedRecord for a record that cannot be read, MissingComponent if the list cannot be.
        """
        self._go_to(offset)
        ready, places = self._ready, self._places
        at, number = self._next
        records = self._records or read_records(self._whole.blocks(at), self._whole.layout, first=number, offset=at)
        self._records = None
        while self._made + len(ready) < offset + size:
            record = next(records, None)
            if record is None:
                break
            places.note(self._made + len(ready), record.offset, record.number)
            ready += self._write(record)
            self._next = (record.offset + record.size, record.number + 1)
            if self._made + len(ready) <= offset:
                self._drop(len(ready))
        else:
            self._records = records
        self._drop(min(len(ready), max(0, offset - self._made)))
        return bytes(ready[:size]) if self._made == offset else b""

    def _go_to(self, offset: int) -> None:
        """Begin at the nearest place before ``offset``, unless what is ready is nearer."""
        made, *place = self._places.before(offset)
        if self._made <= offset and made <= self._made + len(self._ready):
            return
        self._ready.clear()
        self._records = None
        self._made, self._next = made, (place[0], place[1])

    def _drop(self, size: int) -> None:
        del self._ready[:size]
        self._made += size
