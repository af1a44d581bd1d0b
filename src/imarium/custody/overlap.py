"""Where a kernel list and a log overlap, by content. Pure.

The kernel's list may begin with records that the log ends with: they were kept but not deleted, or carried over a
kexec. Content alone can be ambiguous, so these are candidates; replay decides between them.
"""

from collections.abc import Iterator, Sequence

from imarium.errors import MalformedRecord
from imarium.formats.records import ListLayout, RecordFramer, read_records

__all__ = ["MAX_CANDIDATES", "overlaps"]

MAX_CANDIDATES = 16
"""How many overlaps are offered at most: each costs a replay, and the list is not to be trusted."""

_STRIDE = 4096


def overlaps(tail: bytes, kernel: bytes, layout: ListLayout, expected: Sequence[int]) -> Iterator[int]:
    """Sizes, in bytes, of beginnings of ``kernel`` that ``tail``, the end of the log, may end with.

    First the ``expected`` sizes that fit, then 0 (nothing overlaps), then others from the longest. Raises
    MalformedRecord if ``kernel`` does not begin with a record.
    """
    head = _first_record(kernel, layout)
    fitting = [size for size in expected if _fits(tail, kernel, size) and _is_whole(kernel[:size], layout)]
    first = list(dict.fromkeys([*fitting, 0]))
    yield from first
    offered = 0
    position = max(0, len(tail) - len(kernel))
    while head and offered < MAX_CANDIDATES:
        position = tail.find(head, position)
        if position < 0:
            return
        size = len(tail) - position
        if size not in first and _fits(tail, kernel, size) and _is_whole(kernel[:size], layout):
            yield size
            offered += 1
        position += 1


def _fits(tail: bytes, kernel: bytes, size: int) -> bool:
    return size <= min(len(tail), len(kernel)) and tail[len(tail) - size :] == kernel[:size]


def _is_whole(data: bytes, layout: ListLayout) -> bool:
    framer = RecordFramer(layout)
    try:
        framer.feed(data)
        framer.finish()
    except MalformedRecord:
        return False
    return True


def _first_record(kernel: bytes, layout: ListLayout) -> bytes:
    """The first record's bytes. Raises MalformedRecord."""
    blocks = (kernel[start : start + _STRIDE] for start in range(0, len(kernel), _STRIDE))
    first = next(read_records(blocks, layout), None)
    return b"" if first is None else kernel[: first.size]
