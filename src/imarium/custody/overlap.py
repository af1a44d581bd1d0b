"""Where a kernel list and a log overlap, by content.

The kernel's list may begin with records that the log ends with: they were kept but not deleted, or carried over a
kexec. Content alone can be ambiguous, so these are candidates; replay decides between them.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from imarium import durable
from imarium.custody.listing import Listing
from imarium.custody.log import Log
from imarium.errors import MalformedRecord
from imarium.formats.records import RecordFramer, read_records

__all__ = ["MAX_CANDIDATES", "overlaps"]

MAX_CANDIDATES = 16
"""How many overlaps are offered at most: each costs a replay, and the list is not to be trusted.

Nor are more bytes compared to find them than so many times those of the list, and of a block: one can be made of
records that are all the same, so that each place looks like the right one almost to its end.
"""
_NEAR = 1 << 10
"""How many bytes are compared first. So little for each record is within the bound, whatever the list is."""


def overlaps(log: Log, kernel: Listing) -> Iterator[int]:
    """Sizes, in bytes, of beginnings of ``kernel`` that the log may end with.

    First those the log expects, if they fit, then 0 (nothing overlaps), then others from the longest. Raises
    MalformedRecord if ``kernel`` does not begin with a record.
    """
    near = b"".join(kernel.blocks(0, min(_NEAR, kernel.size)))
    first = dict.fromkeys([*(size for size in log.expected_overlaps if _fits(log, kernel, near, size)[0]), 0])
    yield from first
    offered, to_compare = 0, MAX_CANDIDATES * max(kernel.size, durable.BLOCK)
    for size in _places(log, kernel):
        if size in first:
            continue
        fits, compared = _fits(log, kernel, near, size)
        if fits:
            yield size
            offered += 1
        to_compare -= compared
        if offered == MAX_CANDIDATES or to_compare <= 0:
            return


def _places(log: Log, kernel: Listing) -> Iterator[int]:
    """How many bytes of the log lie behind each place, from the first, that the kernel's first record stands at."""
    head = _first_record(log, kernel)
    if not head:
        return
    position = max(0, log.bytes - kernel.size)
    window = b""
    for block in log.blocks(position):
        window += block
        found = window.find(head)
        while found >= 0:
            yield log.bytes - position - found
            found = window.find(head, found + 1)
        cut = max(0, len(window) - len(head) + 1)
        position += cut
        window = window[cut:]


def _fits(log: Log, kernel: Listing, near: bytes, size: int) -> tuple[bool, int]:
    """Whether the last ``size`` bytes of the log are the kernel's first, and whole records; how many were compared.

    ``near`` are the kernel's first bytes.
    """
    if size > min(log.bytes, kernel.size):
        return False, 0
    framer = RecordFramer(log.layout)
    compared = 0
    try:
        for piece in chain([near[:size]], _pieces(kernel.blocks(len(near), size) if size > len(near) else ())):
            position = log.bytes - size + compared
            compared += len(piece)
            if b"".join(log.blocks(position, position + len(piece))) != piece:
                return False, compared
            framer.feed(piece)
        framer.finish()
    except MalformedRecord:
        return False, compared
    return True, compared


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in small pieces at first, so that not much is compared where the difference comes early."""
    most = 2 * _NEAR
    for block in blocks:
        at = 0
        while at < len(block):
            piece = block[at : at + most]
            at, most = at + len(piece), 2 * most
            yield piece


def _first_record(log: Log, kernel: Listing) -> bytes:
    """The kernel's first record's bytes. Raises MalformedRecord."""
    first = next(read_records(kernel.blocks(), log.layout), None)
    return b"" if first is None else b"".join(kernel.blocks(0, first.size))
