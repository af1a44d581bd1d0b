"""Readers that were let go a moment ago: no list of open files has them yet."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from imarium.engine.process import is_opening

__all__ = ["RecentReaders"]

_SECONDS = 0.02
"""How long after it was let go a task may still be on its way to the open file."""


@dataclass(slots=True, eq=False)
class _Reader:
    device: int
    inode: int
    task: int
    until: float = inf


class RecentReaders:
    """Tasks a file was measured for, until they have it open or give up. Can be used from any thread."""

    def __init__(self) -> None:
        self._readers: deque[_Reader] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, device: int, inode: int, task: int) -> Iterator[None]:
        """Within the block, and for a moment after it, the task counts as a reader of the file."""
        reader = _Reader(device, inode, task)
        now = time.monotonic()
        with self._lock:
            while self._readers and self._readers[0].until < now:
                self._readers.popleft()
            self._readers.append(reader)
        try:
            yield
        finally:
            reader.until = time.monotonic() + _SECONDS

    def any(self, device: int, inode: int, but: int) -> bool:
        """Whether a task other than ``but`` is about to have the file open."""
        now = time.monotonic()
        with self._lock:
            self._readers = deque(reader for reader in self._readers if reader.until > now)
            tasks = {reader.task for reader in self._readers if (reader.device, reader.inode) == (device, inode)}
        return any(is_opening(task) for task in tasks - {but})
