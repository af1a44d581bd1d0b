"""Who makes a system call on a mounted tree: its thread, and what that may do."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CAP_SYS_ADMIN", "Caller", "Task"]

CAP_SYS_ADMIN = 21
"""linux/capability.h."""

_PROC = Path("/proc")
_STARTED_FIELD = 22 - 3  # /proc/TID/stat, counted from the field behind the name


@dataclass(frozen=True, slots=True)
class Task:
    """One thread, for good: ``started`` (in clock ticks since boot) tells it from a later one of the same number."""

    tid: int
    started: int


@dataclass(frozen=True, slots=True)
class Caller:
    """The thread that waits for an answer, as FUSE tells of it; ``tid`` is 0 if we cannot see it from here.

    ``uid`` and ``gid`` are those it uses for files. What is asked about it is true until it is answered, unless it is
    killed meanwhile; then the answer reaches no one.
    """

    tid: int
    uid: int
    gid: int

    def task(self) -> Task | None:
        """The thread's identity, or None if it is not to be seen."""
        try:
            text = (self._place() / "stat").read_bytes()
            return Task(self.tid, int(text.rpartition(b")")[2].split()[_STARTED_FIELD]))
        except (OSError, ValueError, IndexError):
            return None

    def has_capability(self, number: int) -> bool:
        """Whether it has an effective capability in this process's user namespace.

        That is capable() of the kernel, where this process is in the first user namespace. A thread of another
        namespace, also of an outer one, or one that is not to be seen, has none.
        """
        try:
            place = self._place()
            theirs, ours = ((where / "ns" / "user").stat() for where in (place, _PROC / "self"))
            status = (place / "status").read_bytes()
        except OSError:
            return False
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            return False
        return bool(_effective(status) >> number & 1)

    def _place(self) -> Path:
        """Where the thread is in /proc. Raises OSError where it is not, also if /proc counts processes otherwise."""
        if not self.tid or (_PROC / "self").readlink() != Path(str(os.getpid())):
            raise ProcessLookupError(self.tid)
        return _PROC / str(self.tid)


def _effective(status: bytes) -> int:
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name == b"CapEff":
            return int(value, 16)
    return 0
