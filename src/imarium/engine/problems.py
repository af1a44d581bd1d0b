"""Uses of files that are not in the list, or not before they happened: told of in a thread of its own."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Problem", "ProblemKind", "Problems"]

_AT_ONCE = 1024
_TICK = 0.25


class ProblemKind(Enum):
    """Why a use of a file may not have been measured before it happened."""

    OVERDUE = "overdue"
    """Measuring took longer than the deadline, or than the watch. It goes on, but the file was let go."""
    OVERLOADED = "overloaded"
    """Too many waited, or all that measures hangs: this one was let go at once."""
    OVERFLOW = "overflow"
    """The kernel has dropped events."""
    FAILED = "failed"
    """Measuring failed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A use of a file that is not in the list, or not before it happened; or ``uses`` of them, without names.

    Without uses it is about the watch itself.
    """

    kind: ProblemKind
    name: bytes
    task: int
    detail: str
    uses: int = 1


class Problems:
    """Tells ``tell`` of each in turn, in the thread that calls :meth:`run`. What is too many is only counted."""

    def __init__(self, tell: Callable[[Problem], None]) -> None:
        self._tell = tell
        self._waiting: queue.Queue[Problem] = queue.Queue(_AT_ONCE)
        self._untold = 0
        self._lock = threading.Lock()

    def add(self, problem: Problem) -> None:
        """Leave it to be told of; where that is far behind, it is only counted. Never waits."""
        try:
            self._waiting.put_nowait(problem)
        except queue.Full:
            with self._lock:
                self._untold += problem.uses

    def run(self, ended: threading.Event) -> None:
        """Tell until it has ended, and of all that is left then."""
        while not (ended.is_set() and self._waiting.empty()):
            try:
                self._tell(self._waiting.get(timeout=_TICK))
            except queue.Empty:
                continue
            with self._lock:
                untold, self._untold = self._untold, 0
            if untold:
                detail = f"{untold} more came faster than they could be told of"
                self._tell(Problem(ProblemKind.OVERLOADED, b"", 0, detail, untold))
