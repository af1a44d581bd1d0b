"""A list of measurements in little memory: packed bytes in segments, found by number in constant time."""

import struct
from array import array
from collections.abc import Iterator

from imarium.engine.measurement import Measurement
from imarium.formats import ByteOrder, PcrIndex, Template

__all__ = ["RecordList"]

_SEGMENT = 1024
"""Records in a segment. All but the last have as many."""

_HEAD = struct.Struct("<BBH")
"""Before each record's data: its register, whether it is a violation, and the number of its template."""


class _Segment:
    """Some records one behind the other; ``ends`` has where each one's data ends, ``size`` what the kernel counts."""

    __slots__ = ("data", "ends", "size")

    def __init__(self) -> None:
        self.data: bytearray | bytes = bytearray()
        self.ends = array("Q")
        self.size = 0

    def append(self, packed: bytes, size: int) -> None:
        assert isinstance(self.data, bytearray)  # noqa: S101 - a full segment gets no more
        self.data += packed
        self.size += size
        self.ends.append(len(self.data))
        if len(self.ends) == _SEGMENT:
            self.data = bytes(self.data)  # without the room to grow

    def get(self, index: int) -> bytes:
        return bytes(self.data[self.ends[index - 1] if index else 0 : self.ends[index]])


class RecordList:
    """Measurements by number, from ``first`` on. Numbers are never given twice and outlive deletions.

    One thread at a time may change it. Others may read meanwhile: they get the record they ask for, or IndexError if it
    was deleted. ``size`` is what the kernel counts for it, in bytes (its
    ``binary_runtime_size``).
    """

    def __init__(self, byte_order: ByteOrder, first: int = 0) -> None:
        self._byte_order = byte_order
        self._held: tuple[int, list[_Segment]] = (first, [])
        self._templates: list[Template] = []
        self._known: dict[Template, int] = {}
        self._last: Template | None = None
        self._last_number = 0
        self.first = first
        self.end = first
        self.size = 0

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, number: int) -> Measurement:
        """The measurement with this number. Raises IndexError where it is not in the list."""
        base, segments = self._held  # looked at before ``first``: see delete
        if not self.first <= number < self.end:
            raise IndexError(f"record {number} is not among {self.first} to {self.end}")
        segment, index = divmod(number - base, _SEGMENT)
        packed = segments[segment].get(index)
        pcr, violation, known = _HEAD.unpack_from(packed)
        data = packed[_HEAD.size :]
        return Measurement(PcrIndex(pcr), self._templates[known], data, bool(violation), self._byte_order)

    def __iter__(self) -> Iterator[Measurement]:
        """The measurements that are there when it begins, in their order."""
        for number in range(self.first, self.end):
            yield self[number]

    def append(self, measurement: Measurement) -> int:
        """Add a measurement; its number."""
        known, size = self._number_of(measurement.template), measurement.runtime_size
        base, segments = self._held
        if (self.end - base) % _SEGMENT == 0:
            segments.append(_Segment())
        head = _HEAD.pack(measurement.pcr, measurement.violation, known)
        segments[-1].append(head + measurement.data, size)
        self.size += size
        self.end += 1
        return self.end - 1

    def delete(self, count: int) -> None:
        """Drop the ``count`` oldest, which are there."""
        left = self.first + count
        base, segments = self._held
        gone = (left - base) // _SEGMENT
        if gone:
            base, segments = base + gone * _SEGMENT, segments[gone:]
            self.size = sum(segment.size for segment in segments)
            self.first = base
            self._held = base, segments  # after ``first``, so that nobody takes one record for another
        for number in range(self.first, left):
            size = self[number].runtime_size
            self.size -= size
            segments[0].size -= size
        self.first = left

    def _number_of(self, template: Template) -> int:
        """Its place among those met so far. Most records have the template of the one before: looking it up is slow."""
        if template is not self._last:
            number = self._known.setdefault(template, len(self._known))
            if number == len(self._templates):
                self._templates.append(template)
            self._last, self._last_number = template, number
        return self._last_number
