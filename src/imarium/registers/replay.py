"""Replay of an event log against a register's value. No I/O: lines and a value in, a verification out.

A SYNC line gives the value to begin with, so a replay can begin at any. At each later one the replayed value must be
the one it claims. Where it is not, the register was extended between: a gap. A gap is explained when the digests
noted by ``# .EXTEND`` lines close it; the notes are hints that the SYNC line's value proves or does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from imarium.chain import extend
from imarium.hashes import HashAlgorithm
from imarium.registers.text import Kind, Line

__all__ = ["Gap", "Verification", "last_value", "verify"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A SYNC line, by number, that the lines before it do not lead to; ``explained`` by noted extends or not."""

    line: int
    explained: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """What replay found.

    ``start`` is the SYNC line it began at, None if there is none to begin at. ``covered`` is the last line whose
    event the value covers, None if the value was never reached. ``events`` are the hashed lines from ``start`` to
    ``covered``, ``unverified`` those after. ``gaps`` are those before ``covered``; events before an unexplained one
    are not vouched for by the value. ``noted`` tells that the value is reached only over extends that have no event.
    """

    start: int | None
    covered: int | None
    events: int
    unverified: int
    gaps: tuple[Gap, ...]
    noted: bool

    @property
    def unbroken(self) -> bool:
        """The value vouches for every event from ``start`` to ``covered``."""
        return self.covered is not None and all(gap.explained for gap in self.gaps)

    @property
    def in_step(self) -> bool:
        """The log leads to the value, and every event of the log from ``start`` on is vouched for."""
        return self.unbroken and self.unverified == 0 and not self.noted


@dataclass(slots=True)
class _Replay:
    algorithm: HashAlgorithm
    target: bytes
    start: int | None = None
    value: bytes = b""
    hinted: bytes = b""
    events: int = 0
    gaps: list[Gap] = field(default_factory=list)
    at_match: tuple[int, int, int] | None = None
    """The line, and how many events and gaps there are up to it."""
    noted: bool = False

    def take(self, line: Line) -> None:
        match line.kind:
            case Kind.EXTENDED if self.start is not None:
                self.hinted = extend(self.algorithm, self.hinted, line.value)
                self.noted = self.hinted == self.target
            case Kind.SYNC | Kind.EVENT:
                self._hash(line)

    def _hash(self, line: Line) -> None:
        if line.kind is Kind.SYNC:
            if self.start is None:
                self.start = line.number
                if self.events:
                    self.gaps.append(Gap(line.number, explained=False))
            elif self.value != line.value:
                self.gaps.append(Gap(line.number, explained=self.hinted == line.value))
            self.value = line.value
        self.events += 1
        self.noted = False
        if self.start is not None:
            self.hinted = self.value = extend(self.algorithm, self.value, self.algorithm.digest(line.text))
            if self.value == self.target:
                self.at_match = (line.number, self.events, len(self.gaps))


def verify(lines: Iterable[Line], algorithm: HashAlgorithm, value: bytes, *, start: int | None = None) -> Verification:
    """Replay a log against a register's ``value``: all of it, or from the SYNC line with the number ``start``.

    Whole, a log whose first event is not a SYNC line has a gap at the first that is one.
    """
    replay = _Replay(algorithm, value)
    last_hashed: int | None = None
    for line in lines:
        if start is not None and replay.start is None:
            if line.number < start:
                continue
            if line.number > start or line.kind is not Kind.SYNC:
                break
        replay.take(line)
        last_hashed = line.number if line.hashed else last_hashed
    covered, events, gaps = replay.at_match or (None, 0, 0)
    if replay.noted and covered is None and replay.start is not None:
        covered, events, gaps = last_hashed, replay.events, len(replay.gaps)
    return Verification(replay.start, covered, events, replay.events - events, tuple(replay.gaps[:gaps]), replay.noted)


def last_value(lines: Iterable[Line], algorithm: HashAlgorithm) -> tuple[int, bytes | None]:
    """Where a log ends, in bytes, and the value it leads to from its last SYNC line.

    The value is None where there is no SYNC line, or an extend is noted after the last one.
    """
    end = 0
    value: bytes | None = None
    for line in lines:
        end = line.end
        if line.kind is Kind.SYNC:
            value = line.value
        if line.kind is Kind.EXTENDED:
            value = None
        elif line.hashed and value is not None:
            value = extend(algorithm, value, algorithm.digest(line.text))
    return end, value
