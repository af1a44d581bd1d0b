"""The mark beside an event log: up to which byte the log is settled, and the register's value there.

It is one line of JSON with a checksum in a file of fixed size, written in place so that no space is needed once it is
there. It can be lost: replay of the log from its last SYNC line gives it again.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from imarium import durable
from imarium.errors import MissingComponent
from imarium.formats.sealed import seal, unseal

__all__ = ["Mark", "read_mark", "write_mark"]

_SIZE = 512


@dataclass(frozen=True, slots=True)
class Mark:
    """``size`` bytes of the log are settled: each event in them was extended, or was cut away. ``value`` is the
    register's after them. ``in_step`` tells whether those bytes lead to that value from their last SYNC line.
    """

    size: int
    value: bytes
    in_step: bool


def read_mark(path: Path) -> Mark | None:
    """The mark, or None where there is none that is whole. Raises MissingComponent if it cannot be read."""
    try:
        with durable.storage_errors(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                data = os.pread(descriptor, _SIZE, 0)
            finally:
                os.close(descriptor)
    except MissingComponent as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return _decode(data)


def write_mark(path: Path, mark: Mark) -> None:
    """Put the mark on stable storage. Raises MissingComponent."""
    data = _encode(mark)
    with durable.storage_errors(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, durable.FILE_MODE)
        try:
            os.pwrite(descriptor, data, 0)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _encode(mark: Mark) -> bytes:
    body = {"size": mark.size, "value": mark.value.hex(), "in_step": mark.in_step}
    return seal(body).ljust(_SIZE - 1) + b"\n"


def _decode(data: bytes) -> Mark | None:
    body = unseal(data)
    if body is None:
        return None
    try:
        mark = Mark(int(body["size"]), bytes.fromhex(body["value"]), body["in_step"] is True)
    except (ValueError, KeyError, TypeError):
        return None
    return mark if mark.size >= 0 else None
