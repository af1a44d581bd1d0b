"""The records of a piece of evidence, read in blocks: memory stays small however many there are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imarium.formats.evidence import ListPart
from imarium.formats.records import Frame, Record, RecordFramer, read_records
from imarium.formats.registers import PcrIndex

__all__ = ["ListedRecords", "read_list"]

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ListedRecords:
    """Records that are well formed down to their fields: still claims.

    ``count`` is how many there are, ``columns`` has the number of the first record for each number in the list's
    register column, and ``first`` is the first record, None where there is none. ``registers`` has the register that
    each of these numbers stands for, and is empty where all stand for themselves.
    """

    part: ListPart
    count: int
    columns: Mapping[PcrIndex, int]
    first: Record | None
    registers: Mapping[PcrIndex, PcrIndex] = field(default_factory=dict)

    def frames(self) -> Iterator[list[Frame]]:
        """The frames, in order, some thousands at a time, each with the register its record went into."""
        framer = RecordFramer(self.part.layout, first=self.part.first)
        for block in _blocks(self.part):
            frames = framer.feed(block)
            if frames and self.registers:
                yield [(self.registers[PcrIndex(frame[0])], *frame[1:]) for frame in frames]
            elif frames:
                yield frames

    def split_frames(self, records: int) -> Iterator[list[Frame]]:
        """The frames, with a list that ends after the first ``records`` of them, if there are as many."""
        seen = 0
        for frames in self.frames():
            cut = records - seen
            seen += len(frames)
            if 0 < cut < len(frames):
                yield frames[:cut]
                yield frames[cut:]
            else:
                yield frames


def read_list(part: ListPart) -> ListedRecords:
    """Reads every record down to its fields. Raises MalformedRecord."""
    count = 0
    columns: dict[PcrIndex, int] = {}
    first: Record | None = None
    for record in read_records(_blocks(part), part.layout, first=part.first):
        _ = record.fields
        columns.setdefault(record.pcr, record.number)
        first = first or record
        count += 1
    return ListedRecords(part, count, columns, first)


def _blocks(part: ListPart) -> Iterator[bytes]:
    for start in range(0, len(part.records), _BLOCK):
        yield part.records[start : start + _BLOCK]
