"""The kernel's file interface to measurement lists, in a directory of securityfs."""

from imarium.securityfs.client import Held, ImaDirectory, Snapshot
from imarium.securityfs.errors import (
    AlreadyStaged,
    ListBusy,
    ListUnavailable,
    MeasuringSuspended,
    NothingToDelete,
    NothingToStage,
    SecurityfsError,
    WriteNotPermitted,
)

__all__ = [
    "AlreadyStaged",
    "Held",
    "ImaDirectory",
    "ListBusy",
    "ListUnavailable",
    "MeasuringSuspended",
    "NothingToDelete",
    "NothingToStage",
    "SecurityfsError",
    "Snapshot",
    "WriteNotPermitted",
]
