"""The kernel's file interface to measurement lists, in a directory of securityfs."""

from imarium.securityfs.client import Held, ImaDirectory, Snapshot
from imarium.securityfs.errors import (
    AlreadyStaged,
    DeleteRefused,
    ListBusy,
    ListUnavailable,
    MeasuringSuspended,
    NothingToDelete,
    NothingToStage,
    SecurityfsError,
    WriteNotPermitted,
)
from imarium.securityfs.holders import Holder, holders

__all__ = [
    "AlreadyStaged",
    "DeleteRefused",
    "Held",
    "Holder",
    "ImaDirectory",
    "ListBusy",
    "ListUnavailable",
    "MeasuringSuspended",
    "NothingToDelete",
    "NothingToStage",
    "SecurityfsError",
    "Snapshot",
    "WriteNotPermitted",
    "holders",
]
