"""What can go wrong at a register or its log: one class for each thing a caller can do about it.

``number`` is the ``errno`` that a file of the register tree answers with.
"""

import errno
from typing import ClassVar

from imarium.errors import DeviceError, ImariumError, MalformedInput, MissingComponent, RefusedOperation, UsageError

__all__ = [
    "ForeignExtend",
    "LogBusy",
    "RegisterBusy",
    "RegisterError",
    "RegisterFailed",
    "RegisterInterrupted",
    "RegisterReadOnly",
    "RegisterUnavailable",
    "TextTooLong",
    "device_error",
    "error_number",
]


class RegisterError(DeviceError):
    """A register could not be read, extended or stored."""

    code = "register"
    number: ClassVar[int] = errno.EIO


class RegisterUnavailable(RegisterError):
    """ENXIO or ENODEV: the device is gone, or does not have this register now."""

    code = "register_unavailable"
    number = errno.ENXIO


class RegisterBusy(RegisterError):
    """EBUSY: the device is at work for someone else; nothing was extended."""

    code = "register_busy"
    number = errno.EBUSY


class RegisterFailed(RegisterError):
    """EIO: the device failed; whether it extended is to be seen by reading the register."""

    code = "register_failed"


class RegisterInterrupted(RegisterError):
    """EINTR: a signal came before the device was asked; nothing was extended."""

    code = "register_interrupted"
    number = errno.EINTR


class ForeignExtend(RegisterError):
    """A register's value is not what this extend leads to: someone else extended it at the same time."""

    code = "foreign_extend"


class RegisterReadOnly(RefusedOperation):
    """The register's flags do not allow this; nothing was done."""

    code = "register_read_only"


class LogBusy(MissingComponent):
    """Another process has held an event log's lock for too long."""

    code = "log_busy"


class TextTooLong(UsageError):
    """More than one page of text for one append; nothing was logged or extended."""

    code = "text_too_long"


_KINDS: dict[int, tuple[type[RegisterError], str]] = {
    errno.ENXIO: (RegisterUnavailable, "the device does not have it; is this a guest of that kind?"),
    errno.ENODEV: (RegisterUnavailable, "the device is gone; load its driver"),
    errno.EBUSY: (RegisterBusy, "the device is busy; nothing was extended, try again"),
    errno.EIO: (RegisterFailed, "the device failed; read the register to see whether it was extended"),
    errno.EINTR: (RegisterInterrupted, "a signal came first; nothing was extended, try again"),
}


def device_error(place: object, error: OSError) -> ImariumError:
    """The error for what the system answered at ``place``: a path."""
    number = error.errno or 0
    if number in _KINDS:
        kind, advice = _KINDS[number]
        return kind(f"{place}: {advice}")
    match number:
        case errno.ENOENT | errno.ENOTDIR:
            return MissingComponent(f"{place}: not there; see imarium registers list for what is")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return MissingComponent(f"{place}: not permitted; run as root, and extend only writable registers")
        case _:
            return RegisterError(f"{place}: {error.strerror}; see what the kernel logged of the device")


def error_number(error: ImariumError) -> int:
    """The ``errno`` for a file of the tree, from the error that an operation raised."""
    match error:
        case RegisterError():
            return error.number
        case LogBusy():
            return errno.EBUSY
        case TextTooLong():
            return errno.E2BIG
        case UsageError() | MalformedInput():
            return errno.EINVAL
        case RefusedOperation():
            return errno.EACCES
    cause = error.__cause__
    return cause.errno if isinstance(cause, OSError) and cause.errno else errno.EIO
