"""What is remembered of each file: what of it was measured, and which races are under way."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from imarium.engine.content import Fingerprint
from imarium.formats import PcrIndex

__all__ = ["FileCache", "FileState"]

DEFAULT_CAPACITY = 1 << 18
"""Files remembered. One that was forgotten is hashed anew; its record is not made twice."""


@dataclass(slots=True, eq=False)
class FileState:
    """What is remembered of one file (the kernel's ``ima_iint_cache``). Hold ``lock`` while looking at it.

    ``measured`` are the registers its present content was measured into, ``content`` what it looked like then, or None
    if it might have changed since without looking different; ``what`` is what was measured. ``may_tomtou`` says that it
    was measured for a reader since the last violation, ``writers_told`` that there was a violation about the writers it
    has now.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    measured: set[PcrIndex] = field(default_factory=set)
    content: Fingerprint | None = None
    what: object = None
    may_tomtou: bool = False
    writers_told: bool = False


class FileCache:
    """Files by device and inode. The least recently asked for is forgotten first."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._states: OrderedDict[tuple[int, int], FileState] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def state(self, device: int, inode: int) -> FileState:
        """What is remembered of a file, from now on if nothing was."""
        key = (device, inode)
        with self._lock:
            found = self._states.get(key)
            if found is None:
                found = self._states[key] = FileState()
                if len(self._states) > self._capacity:
                    self._states.popitem(last=False)
            else:
                self._states.move_to_end(key)
            return found

    def known(self, device: int, inode: int) -> FileState | None:
        """What is remembered of a file, if anything."""
        with self._lock:
            return self._states.get((device, inode))
