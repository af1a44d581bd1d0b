"""The records of a queue as the bytes of a list file: binary or ASCII, with the digests of one bank."""

from collections.abc import Callable

from imarium.engine import Measurement, MeasurementQueue, RecordList
from imarium.formats import ascii_line
from imarium.formats.records import encode_frame
from imarium.hashes import HashAlgorithm

__all__ = ["Encode", "Listing", "ascii_of", "binary_of"]

Encode = Callable[[Measurement, HashAlgorithm], bytes]

_BLOCK = 128
"""Records encoded at a time."""


def binary_of(measurement: Measurement, bank: HashAlgorithm) -> bytes:
    """The record in a binary list."""
    name = measurement.template.name.encode("ascii")
    return encode_frame((measurement.pcr, measurement.digest(bank), name, measurement.data), measurement.byte_order)


def ascii_of(measurement: Measurement, bank: HashAlgorithm) -> bytes:
    """The line in an ASCII list."""
    return ascii_line(measurement.record(0, bank))


class Listing:
    """One list for one reader. Encoded records are kept a block at a time: their numbers are never given twice.

    It does without the queue's lock, which is held while a record is extended: readers do not wait for devices.
    """

    def __init__(self, queue: MeasurementQueue, bank: HashAlgorithm, encode: Encode, *, staged: bool) -> None:
        self._queue = queue
        self._bank = bank
        self._encode = encode
        self._staged = staged
        self._block: list[bytes] = []
        self._block_start = 0

    def now(self) -> "_Moment":
        """The records that are there now."""
        records = self._queue.staged if self._staged else self._queue.current
        return _Moment(self, records, records.first, records.end)

    def encoded(self, records: RecordList, number: int, end: int) -> bytes | None:
        """The record with this number; None if it was deleted meanwhile."""
        place = number - self._block_start
        if not 0 <= place < len(self._block):
            numbers = range(number, min(number + _BLOCK, end))
            try:
                self._block = [self._encode(records[found], self._bank) for found in numbers]
            except IndexError:
                return None
            self._block_start = number
            place = 0
        return self._block[place]


class _Moment:
    """The records as of one read, by index."""

    def __init__(self, listing: Listing, records: RecordList, first: int, end: int) -> None:
        self._listing = listing
        self._list = records
        self._first = first
        self._end = end

    @property
    def version(self) -> object:
        """An index means another record once the list begins elsewhere."""
        return self._first

    def __call__(self, index: int) -> bytes | None:
        number = self._first + index
        return self._listing.encoded(self._list, number, self._end) if number < self._end else None
