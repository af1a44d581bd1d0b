"""The error tree.

Every error that leaves imarium is an :class:`ImariumError`. It has a stable ``code`` for programs, a one-line
message that says what to do next for people, and the exit status the command line ends with.
"""

from typing import ClassVar

__all__ = [
    "DeviceError",
    "ImariumError",
    "MalformedInput",
    "MalformedRecord",
    "MissingComponent",
    "RefusedOperation",
    "UsageError",
]


class ImariumError(Exception):
    """Any error of imarium's own. ``str()`` of it is one line."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1


class UsageError(ImariumError):
    """The caller asked for something that makes no sense: options that exclude each other, an unknown name."""

    code = "usage"
    exit_status = 2


class MalformedInput(ImariumError):
    """Bytes or text that are not what they should be.

    ``what`` names the structure (its name in the specification), ``offset`` is the byte at which it stopped making
    sense, counted from the structure's start, ``expected`` and ``found`` say what should have been there and what
    was.
    """

    code = "malformed"
    exit_status = 3

    def __init__(self, what: str, *, offset: int, expected: str, found: str) -> None:
        self.what = what
        self.offset = offset
        self.expected = expected
        self.found = found
        super().__init__(self._message())

    def _message(self) -> str:
        return f"{self.what}: at byte {self.offset}: expected {self.expected}, found {self.found}"


class MalformedRecord(MalformedInput):
    """A record of a measurement list that cannot be read.

    ``record`` is its number, from 0; ``offset`` is counted from the start of the list.
    """

    code = "malformed_record"

    def __init__(self, *, record: int, offset: int, expected: str, found: str) -> None:
        self.record = record
        super().__init__("measurement list", offset=offset, expected=expected, found=found)

    def _message(self) -> str:
        return f"record {self.record} at byte {self.offset}: expected {self.expected}, found {self.found}"


class MissingComponent(ImariumError):
    """Something of the environment is missing: a device, a file, a library, a permission."""

    code = "missing"
    exit_status = 4


class DeviceError(ImariumError):
    """A device refused a command or broke off. The message names the command and the device's own reason."""

    code = "device"
    exit_status = 4


class RefusedOperation(ImariumError):
    """What was asked for is possible, but would lose or hide something; nothing was done."""

    code = "refused"
    exit_status = 1
