"""What the kernel answers, as imarium's own errors: one class for each thing a caller can do about it."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from imarium.errors import MissingComponent

__all__ = [
    "AlreadyStaged",
    "DeleteRefused",
    "ListBusy",
    "ListUnavailable",
    "MeasuringSuspended",
    "NothingToDelete",
    "NothingToStage",
    "SecurityfsError",
    "WriteNotPermitted",
    "command_error",
    "open_error",
]


class SecurityfsError(MissingComponent):
    """The kernel's file interface refused an operation, or is not there."""

    code = "securityfs"


class ListUnavailable(SecurityfsError):
    """The list is not there, or may not be read, or reading it failed."""

    code = "list_unavailable"


class ListBusy(SecurityfsError):
    """EBUSY: a reader or a writer of the lists is in the way."""

    code = "list_busy"


class WriteNotPermitted(SecurityfsError):
    """EPERM, EACCES or EROFS at opening for write: commands need CAP_SYS_ADMIN."""

    code = "write_not_permitted"


class AlreadyStaged(SecurityfsError):
    """EEXIST at ``A``: records are staged already."""

    code = "already_staged"


class NothingToStage(SecurityfsError):
    """ENOENT at ``A``: the current list is empty."""

    code = "nothing_to_stage"


class NothingToDelete(SecurityfsError):
    """ENOENT at ``D`` or at a number: nothing is staged, or fewer records are there; nothing was deleted."""

    code = "nothing_to_delete"


class DeleteRefused(SecurityfsError):
    """EINVAL at a number: the kernel does not delete by number, as with ``ima_flush_htable``."""

    code = "delete_refused"


class MeasuringSuspended(SecurityfsError):
    """EACCES at ``A``, ESTALE at a deletion: a kexec is under way and the next kernel gets these records."""

    code = "measuring_suspended"


_SECURITYFS = Path("/sys/kernel/security")

Command = Literal["stage", "delete_staged", "delete"]

_COMMAND_ERRORS: Mapping[tuple[Command, int], tuple[type[SecurityfsError], str]] = {
    ("stage", errno.EEXIST): (AlreadyStaged, "records are staged already; read and delete those first"),
    ("stage", errno.ENOENT): (NothingToStage, "the list is empty, there is nothing to stage"),
    ("stage", errno.EACCES): (MeasuringSuspended, "measuring is suspended for a kexec; try again in the next kernel"),
    ("delete_staged", errno.ENOENT): (NothingToDelete, "nothing is staged, so nothing was deleted"),
    ("delete_staged", errno.ESTALE): (
        MeasuringSuspended,
        "measuring is suspended for a kexec; the staged records go on to the next kernel",
    ),
    ("delete", errno.ENOENT): (NothingToDelete, "the list has fewer records, so none was deleted"),
    ("delete", errno.ESTALE): (
        MeasuringSuspended,
        "measuring is suspended for a kexec; the records go on to the next kernel",
    ),
    ("delete", errno.EINVAL): (DeleteRefused, "the kernel does not delete by number (is ima_flush_htable set?)"),
}


def command_error(command: Command, path: Path, error: OSError) -> SecurityfsError:
    """The error for a command that the kernel refused."""
    kind, text = _COMMAND_ERRORS.get((command, error.errno or 0), (SecurityfsError, ""))
    return kind(f"{path}: {text or f'the kernel refused the command: {error.strerror}'}")


def open_error(path: Path, error: OSError, *, write: bool, who: str = "someone else") -> SecurityfsError:
    """The error for a file that could not be opened or read. ``who`` has it open, where it is busy."""
    match error.errno:
        case errno.EBUSY:
            return ListBusy(f"{path}: {who} has the measurement lists open; try again when they are done")
        case errno.EPERM | errno.EACCES | errno.EROFS if write:
            return WriteNotPermitted(f"{path}: may not be opened for write; run as root with CAP_SYS_ADMIN")
        case errno.EPERM | errno.EACCES:
            return ListUnavailable(f"{path}: may not be read; run as root")
        case errno.ENOENT if not path.is_relative_to(_SECURITYFS):
            return ListUnavailable(f"{path}: not there; name a directory of list files, such as a mounted engine's")
        case errno.ENOENT:
            return ListUnavailable(f"{path}: not there; mount securityfs and use a kernel with CONFIG_IMA")
        case _:
            return ListUnavailable(f"{path}: {error.strerror}")
