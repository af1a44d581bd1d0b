"""A client of the kernel's measurement list files, with or without staging.

Each command is one ``write(2)`` on an unbuffered descriptor. Over all files of the directory together there is either
any number of open readers or one writer; the writing thread alone may open more of the files, for write or read-write.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from imarium import hashes
from imarium.errors import UsageError
from imarium.hashes import SHA1, HashAlgorithm
from imarium.securityfs.errors import Command, ListBusy, ListUnavailable, SecurityfsError, command_error, open_error
from imarium.securityfs.holders import described, holders

__all__ = ["DIRECTORIES", "Held", "ImaDirectory", "Snapshot"]

DIRECTORIES = (Path("/sys/kernel/security/integrity/ima"), Path("/sys/kernel/security/ima"))
"""Where the kernel has its files; the second is the older place, today a symbolic link to the first."""

BLOCK = 1 << 18
_PREFIX = "binary_runtime_measurements"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
_MAX_DELETE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The lists at one moment, open for reading: no one can stage or delete before they are closed.

    The current list may grow at its end meanwhile. Errors are those of :class:`ImaDirectory`.
    """

    _staged: int | None
    _current: int
    _staged_path: Path
    _current_path: Path

    def staged(self) -> Iterator[bytes]:
        """The staged records, from the first, in blocks; none where there is no staging."""
        return iter(()) if self._staged is None else _read(self._staged, self._staged_path)

    def current(self) -> Iterator[bytes]:
        """The current records, from the first, in blocks."""
        return _read(self._current, self._current_path)


@dataclass(frozen=True, slots=True)
class Held:
    """Both lists open for reading and writing: no one else can read, stage or delete. Measuring goes on.

    Only the thread that opened it may use it. Errors are those of :class:`ImaDirectory`.
    """

    _staged: int
    _current: int
    _staged_path: Path
    _current_path: Path

    def staged(self) -> Iterator[bytes]:
        """The staged records, from the first, in blocks."""
        return _read(self._staged, self._staged_path)

    def current(self) -> Iterator[bytes]:
        """The current records, from the first, in blocks."""
        return _read(self._current, self._current_path)

    def stage(self) -> None:
        """Move all current records to the staged list. Raises AlreadyStaged, NothingToStage, MeasuringSuspended."""
        _command(self._staged, self._staged_path, "stage", b"A\n")

    def delete_staged(self) -> None:
        """Delete the staged records. Raises NothingToDelete, MeasuringSuspended."""
        _command(self._staged, self._staged_path, "delete_staged", b"D\n")

    def delete(self, records: int) -> None:
        """Delete the ``records`` oldest current records. Raises UsageError and

        NothingToDelete, MeasuringSuspended, DeleteRefused.
        """
        if not 0 < records <= _MAX_DELETE:
            raise UsageError(f"cannot delete {records} records: give a number from 1 to {_MAX_DELETE}")
        _command(self._current, self._current_path, "delete", b"%d\n" % records)


class ImaDirectory:
    """The files of one kernel, or of what serves the same interface.

    ``patience`` is how long, in seconds, an open waits for others to be done before it raises ListBusy; ``sleep``
    and ``clock`` are for tests. All methods raise ListUnavailable for a list that cannot be read.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        patience: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        found = path or next((place for place in DIRECTORIES if _is_directory(place)), DIRECTORIES[0])
        self.path = found
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    @property
    def algorithms(self) -> tuple[HashAlgorithm, ...]:
        """The algorithms that have a list of their own here, in the order of :data:`hashes.ALGORITHMS`."""
        return tuple(a for a in hashes.ALGORITHMS if _is_there(self.path / f"{_PREFIX}_{a.name}"))

    @property
    def has_staging(self) -> bool:
        """Whether the kernel can stage and delete."""
        return _is_there(self._staged_path(SHA1))

    def can_delete(self) -> bool:
        """Whether staging is there and its file may be opened for write. Raises ListBusy."""
        if not self.has_staging:
            return False
        try:
            os.close(self._open(self._staged_path(SHA1), os.O_RDWR))
        except ListBusy:
            raise
        except SecurityfsError:
            return False
        return True

    def count(self) -> int:
        """How many records the current list has; staged ones do not count."""
        return self._number("runtime_measurements_count")

    def violations(self) -> int:
        """How many violations the kernel has counted since it started."""
        return self._number("violations")

    @contextmanager
    def hold(self, algorithm: HashAlgorithm = SHA1) -> Iterator[Held]:
        """Lock out everyone else. Raises ListBusy, WriteNotPermitted."""
        staged_path, current_path = self._staged_path(algorithm), self._current_path(algorithm)
        with ExitStack() as stack:
            staged = self._open(staged_path, os.O_RDWR)
            stack.callback(os.close, staged)
            current = self._open(current_path, os.O_RDWR)
            stack.callback(os.close, current)
            yield Held(staged, current, staged_path, current_path)

    @contextmanager
    def snapshot(self, algorithm: HashAlgorithm = SHA1) -> Iterator[Snapshot]:
        """The lists at one moment. Raises ListBusy.

        Read-only opens are enough: while one is open, no one can open a file to stage or delete. So this needs no
        capability and lets others read. Where there is no staging, ``staged`` is empty.
        """
        staged_path, current_path = self._staged_path(algorithm), self._current_path(algorithm)
        with ExitStack() as stack:
            staged = None
            if _is_there(staged_path):
                staged = self._open(staged_path, os.O_RDONLY)
                stack.callback(os.close, staged)
            current = self._open(current_path, os.O_RDONLY)
            stack.callback(os.close, current)
            yield Snapshot(staged, current, staged_path, current_path)

    def stage(self) -> None:
        """:meth:`Held.stage`, on its own."""
        with self.hold() as held:
            held.stage()

    def delete_staged(self) -> None:
        """:meth:`Held.delete_staged`, on its own. Others may have staged since the last look."""
        with self.hold() as held:
            held.delete_staged()

    def delete(self, records: int) -> None:
        """:meth:`Held.delete`, on its own. Others may have deleted since the last look."""
        with self.hold() as held:
            held.delete(records)

    def _current_path(self, algorithm: HashAlgorithm) -> Path:
        path = self.path / f"{_PREFIX}_{algorithm.name}"
        plain = self.path / _PREFIX
        return plain if algorithm == SHA1 and not _is_there(path) else path

    def _staged_path(self, algorithm: HashAlgorithm) -> Path:
        return self.path / f"{_PREFIX}_{algorithm.name}_staged"

    def _open(self, path: Path, flags: int) -> int:
        deadline = self._clock() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return os.open(path, flags | os.O_CLOEXEC)
            except OSError as error:
                left = deadline - self._clock()
                if error.errno != errno.EBUSY or left <= 0:
                    who = described(holders(self.path)) if error.errno == errno.EBUSY else ""
                    raise open_error(path, error, write=bool(flags & os.O_RDWR), who=who) from None
                self._sleep(min(pause, left))
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _number(self, name: str) -> int:
        path = self.path / name
        descriptor = self._open(path, os.O_RDONLY)
        try:
            text = next(_read(descriptor, path), b"")[:32].strip()
        finally:
            os.close(descriptor)
        if not text.isdigit():
            raise ListUnavailable(f"{path}: expected a number, found {text!r}")
        return int(text)


def _is_directory(path: Path) -> bool:
    """Whether there is such a directory, as far as this process may know."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_there(path: Path) -> bool:
    """Whether there is such a file. Raises ListUnavailable where that may not be known."""
    try:
        return path.exists()
    except OSError as error:
        raise open_error(path, error, write=False) from None


def _read(descriptor: int, path: Path) -> Iterator[bytes]:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        while block := os.read(descriptor, BLOCK):
            yield block
    except OSError as error:
        raise open_error(path, error, write=False) from None


def _command(descriptor: int, path: Path, command: Command, text: bytes) -> None:
    try:
        written = os.write(descriptor, text)
    except OSError as error:
        raise command_error(command, path, error) from None
    if written != len(text):
        raise SecurityfsError(f"{path}: the kernel took {written} of {len(text)} bytes of a command")
