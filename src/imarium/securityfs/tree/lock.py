"""The lock over all list files of a directory: any number of readers, or one task that writes."""

import errno

from imarium.fuse import Task, TreeError

__all__ = ["ListLock"]


class ListLock:
    """Counts open files. What is open for write or read-write is one task's, which may open more in these ways only.

    The task is that of the first open for write and stays it until the last of them is released, by whomever.
    """

    def __init__(self) -> None:
        self._readers = 0
        self._writers = 0
        self._owner: Task | None = None

    def enter(self, task: Task | None, *, write: bool) -> None:
        """Open a file. ``task`` is None for one that is not to be seen. Raises TreeError EBUSY."""
        if not write:
            if self._writers:
                raise TreeError(errno.EBUSY)
            self._readers += 1
            return
        if self._readers or (self._writers and (task is None or task != self._owner)):
            raise TreeError(errno.EBUSY)
        self._writers += 1
        self._owner = task

    def leave(self, *, write: bool) -> None:
        """Release a file."""
        if write:
            self._writers -= 1
        else:
            self._readers -= 1
