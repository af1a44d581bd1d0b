"""Locks on files (flock): held by one at a time, and given back when the holder ends, however that is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium import durable
from imarium.errors import ImariumError

__all__ = ["locked"]


@contextmanager
def locked(path: Path, *, busy: ImariumError | None = None) -> Iterator[int]:
    """Hold the lock of the file at ``path``, which is made where it is not there; its descriptor.

    Who inherits the descriptor holds the lock too. It waits for another holder, or raises ``busy`` where that is given.
    The file is not opened for reading: IMA measures what root reads. Raises MissingComponent where it cannot be opened.
    """
    with durable.storage_errors(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, durable.FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise (busy or error) from error
        yield descriptor
    finally:
        os.close(descriptor)
