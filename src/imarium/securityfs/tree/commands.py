"""The commands that are written to list files, and what is no command.

Each is one write of 2 to 21 bytes that ends in a newline. Of the current list's a number is read as the kernel's
kstrtoul() does it: one plus sign may go before the digits and one more newline behind them, and a NUL ends the text.
Everything else is EINVAL, a number beyond 64 bits ERANGE, both before anything about the lists is looked at. Where the
hash table is flushed (``ima_flush_htable``), every number is EINVAL.
"""

import errno
import re

from imarium.engine import MeasurementQueue, QueueError
from imarium.fuse import TreeError

__all__ = ["command_current", "command_staged"]

_SIZES = range(2, 22)
_NUMBER = re.compile(rb"\+?([0-9]+)(.*)", re.DOTALL)
_MOST = (1 << 64) - 1


def command_staged(queue: MeasurementQueue, text: bytes) -> None:
    """``A`` stages all current records, ``D`` deletes the staged ones. Raises TreeError."""
    _check(text)
    match text:
        case b"A\n":
            act = queue.stage_all
        case b"D\n":
            act = queue.delete_staged
        case _:
            raise TreeError(errno.EINVAL)
    try:
        act()
    except QueueError as error:
        raise TreeError(error.number, str(error)) from error


def command_current(queue: MeasurementQueue, text: bytes) -> None:
    """A number deletes as many of the oldest current records. Raises TreeError."""
    _check(text)
    if queue.flush_htable:
        raise TreeError(errno.EINVAL)
    number = _number(text[:-1])
    try:
        queue.delete(number)
    except QueueError as error:
        raise TreeError(error.number, str(error)) from error


def _check(text: bytes) -> None:
    if len(text) not in _SIZES or not text.endswith(b"\n"):
        raise TreeError(errno.EINVAL)


def _number(text: bytes) -> int:
    match = _NUMBER.fullmatch(text.partition(b"\0")[0])
    if match is None:
        raise TreeError(errno.EINVAL)
    number = int(match[1])
    if number > _MOST:
        raise TreeError(errno.ERANGE)
    if match[2] not in (b"", b"\n"):
        raise TreeError(errno.EINVAL)
    return number
