"""Readers that were let go a moment ago: no list of open files has them yet."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from imarium.engine.process import is_opening

__all__ = ["RecentReaders"]

_SECONDS = 0.02
"""How long after it was let go a task may still be on its way to the open file."""


_Reader = tuple[tuple[int, int], int]
"""Device and inode of a file, and a task."""


class RecentReaders:
    """Tasks a file was measured for, until they have it open or give up. Can be used from any thread."""

    def __init__(self) -> None:
        self._waiting: list[_Reader] = []
        self._let_go: deque[tuple[float, _Reader]] = deque()
        """With the time until which each counts, in its order."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._let_go)

    @contextmanager
    def reading(self, device: int, inode: int, task: int) -> Iterator[None]:
        """Within the block, and for a moment after it, the task counts as a reader of the file."""
        reader = (device, inode), task
        with self._lock:
            self._waiting.append(reader)
        try:
            yield
        finally:
            with self._lock:
                self._let_go.append((self._forget() + _SECONDS, reader))
                self._waiting.remove(reader)

    def any(self, device: int, inode: int, but: int) -> bool:
        """Whether a task other than ``but`` is about to have the file open."""
        with self._lock:
            self._forget()
            readers = chain(self._waiting, (reader for _, reader in self._let_go))
            tasks = {task for file, task in readers if file == (device, inode)}
        return any(is_opening(task) for task in tasks - {but})

    def _forget(self) -> float:
        """Drop those whose moment is over; the time now."""
        now = time.monotonic()
        while self._let_go and self._let_go[0][0] < now:
            self._let_go.popleft()
        return now
