"""The steps of one run of custody, in their order, so that a crash at each of them can be tried."""

import os
import signal
from collections.abc import Callable
from enum import StrEnum

from imarium.errors import UsageError

__all__ = ["KILL_VARIABLE", "Hook", "Step", "kill_at", "no_hook"]

KILL_VARIABLE = "IMARIUM_KEEP_KILL_AT"
"""Environment variable for crash tests: the process kills itself with SIGKILL at the step it names."""


class Step(StrEnum):
    """Moments of a run: each is reached when what it names has just been done."""

    LOCKED = "locked"
    """The store is locked."""
    RECOVERED = "recovered"
    """Torn tails of a run that died are cut."""
    READ_ALL = "read-all"
    """The kernel's records and the registers are read."""
    CREATED = "created"
    """A new log is there; only in runs that begin one."""
    INTENT = "intent"
    """The journal says that records will be staged, and where they will go."""
    STAGED = "staged"
    """The kernel has staged its records."""
    READ = "read"
    """The staged records are read."""
    HALF = "half"
    """Half of the bytes are written, likely not to the end of a record."""
    APPENDED = "appended"
    """All bytes are written, not synced."""
    SYNCED = "synced"
    """The bytes are on stable storage."""
    CHECKED = "checked"
    """The bytes were read back and proved."""
    JOURNALED = "journaled"
    """The journal says that they are kept."""
    DELETED = "deleted"
    """The kernel has deleted the staged records."""
    DONE = "done"
    """The journal says so."""


Hook = Callable[[Step], None]
"""Called at each step."""


def no_hook(_step: Step) -> None:
    """Do nothing at any step."""


def kill_at(name: str | None) -> Hook:
    """A hook that kills this process at the step called ``name``; none if it is empty. Raises UsageError."""
    if not name:
        return no_hook
    try:
        chosen = Step(name)
    except ValueError:
        known = ", ".join(Step)
        raise UsageError(f"{KILL_VARIABLE}: no step {name!r}; steps are {known}") from None

    def hook(step: Step) -> None:
        if step is chosen:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
