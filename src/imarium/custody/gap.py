"""Records that are missing: taken by someone else, and seen by counting. What replay sees, replay says."""

from dataclasses import dataclass

from imarium.custody.journal import now

__all__ = ["Gap", "Sightings"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that someone else took, or that never came. ``at`` is when it was seen, ``since`` when all was there.

    ``log`` is the log that begins behind the gap, None if nothing has come since. ``missing`` is how many are known to
    be missing; there may be more. None if nothing is known but that there are some.
    """

    at: str
    since: str
    log: int | None
    missing: int | None
    reason: str

    def to_document(self) -> dict[str, object]:
        """The gap as a JSON document."""
        return {
            "at": self.at,
            "since": self.since,
            "log": self.log,
            "missing": self.missing,
            "reason": self.reason,
        }


@dataclass(slots=True)
class Sightings:
    """What the kernel's counter was seen to do since the last drain.

    ``last`` is what it showed last, after the drain if it was not read since; None before the first look.
    Each rise is records that came. So ``arrived``, the sum of them, is how many the kernel must have that are not kept,
    if no one else deletes; those that came and went between two looks are not in it. ``since`` is when the counter had
    not fallen yet.
    """

    last: int | None = None
    arrived: int = 0
    since: str = ""
    _fallen: bool = False

    def saw(self, count: int) -> None:
        """Count what the counter shows now."""
        before = count if self.last is None else self.last
        self.arrived += max(0, count - before)
        self._fallen = self._fallen or count < before
        if not self._fallen:
            self.since = now()
        self.last = count

    def missing(self, found: int) -> int:
        """How many records are missing, at least, if the kernel has ``found`` that are not kept."""
        return max(0, self.arrived - found)
