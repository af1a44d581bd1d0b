"""What each record of a measurement list extends into a register that the kernel does not feed.

All records go into the one register, whatever register their list names. As in the kernel's own banks, the template
digest is taken over the record's data in the register's algorithm, and a violation extends ones.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from imarium import durable
from imarium.chain import extend, violation_digest
from imarium.formats.fields import hash_input
from imarium.formats.records import Frame, ListLayout, RecordFramer
from imarium.formats.templates import template
from imarium.hashes import HashAlgorithm

__all__ = ["Coverage", "Listing", "cover", "record_digests"]

_LEGACY = b"ima"


@dataclass(frozen=True, slots=True)
class Listing:
    """A measurement list as it was at one moment: its bytes, read from the beginning as often as they are asked for.

    ``whole`` says that it is known to begin with the log's first record; otherwise records may have been deleted from
    its beginning.
    """

    layout: ListLayout
    blocks: Callable[[], Iterable[bytes]]
    whole: bool = False

    def batches(self) -> Iterator[list[Frame]]:
        """The whole records, some at a time; what follows the last of them is still being written.

        Raises MalformedRecord behind the records before a broken one, and what ``blocks`` raises.
        """
        framer = RecordFramer(self.layout)
        for block in self.blocks():
            for start in range(0, len(block), durable.BLOCK):
                yield framer.feed(block[start : start + durable.BLOCK])
                framer.check()

    def frames(self) -> Iterator[Frame]:
        """The same, one by one."""
        for batch in self.batches():
            yield from batch

    def steps(self, algorithm: HashAlgorithm) -> Iterator[tuple[Frame, bytes]]:
        """The same, each with what it extends in ``algorithm``. Raises MissingComponent if it cannot be computed."""
        for batch in self.batches():
            yield from zip(batch, record_digests(batch, algorithm), strict=True)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a register's value covers of a list.

    ``covered`` is how many records lead from the initial value to it, None if no number does. ``records`` counts those
    of the list, ``violations`` and ``bad_digests`` (record numbers) as in a replay.
    """

    records: int
    covered: int | None
    violations: int
    bad_digests: tuple[int, ...]

    @property
    def unverified(self) -> int:
        """How many records the value does not vouch for."""
        return self.records - (self.covered or 0)


def record_digests(frames: Sequence[Frame], algorithm: HashAlgorithm) -> list[bytes]:
    """What each record extends. Raises MissingComponent if this machine cannot compute the algorithm."""
    construct = algorithm.constructor()
    ones = violation_digest(algorithm)
    return [construct(_hashed(name, data)).digest() if any(stored) else ones for _, stored, name, data in frames]


def cover(
    batches: Iterable[Sequence[Frame]], layout: ListLayout, algorithm: HashAlgorithm, initial: bytes, value: bytes
) -> Coverage:
    """Replay a list from a register's ``initial`` value and look for ``value``. Raises what ``batches`` raises."""
    covered = 0 if value == initial else None
    reached = initial
    number = violations = 0
    bad: list[int] = []
    column = layout.digest.constructor()
    for frames in batches:
        for frame, digest in zip(frames, record_digests(frames, algorithm), strict=True):
            reached = extend(algorithm, reached, digest)
            if not any(frame[1]):
                violations += 1
            elif not layout.padded and frame[1] != column(_hashed(frame[2], frame[3])).digest():
                bad.append(number)
            number += 1
            if reached == value and covered is None:
                covered = number
    return Coverage(number, covered, violations, tuple(bad))


def _hashed(name: bytes, data: bytes) -> bytes:
    if name != _LEGACY:
        return data
    legacy = template(name)
    assert legacy is not None  # noqa: S101 - built in
    return hash_input(legacy, data)
