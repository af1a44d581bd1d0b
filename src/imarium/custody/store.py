"""The store: a directory of logs, and the lock that lets one process write to it.

Directories have mode 0700, files 0600. A store that another user owns, or can write to, is refused.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium import durable
from imarium.custody.log import JOURNAL_FILE, LIST_FILE, META_FILE, Log
from imarium.custody.meta import LogMeta
from imarium.custody.ownership import check_owner
from imarium.errors import MissingComponent, RefusedOperation, UsageError

__all__ = ["Store", "StoreBusy", "default_store"]

_LOCK, _LOGS, _HIDDEN, _REMOVED = "lock", "logs", ".new-", ".old-"
_PAUSE = 0.05
_LOST = "lost+found"


class StoreBusy(RefusedOperation):
    """Another process has locked the store."""

    code = "store_busy"


def default_store() -> Path:
    """Where the store is unless told. Raises MissingComponent for a user without a home."""
    return durable.state_directory("--store")


class Store:
    """A store. ``patience`` is how many seconds a lock is waited for before StoreBusy is raised.

    Opening raises MissingComponent if it is not there and ``create`` is not set, RefusedOperation if it belongs to
    someone else.
    """

    def __init__(self, path: Path, *, create: bool = False, patience: float = 0.0) -> None:
        self.path = path
        self._patience = patience
        self._logs = path / _LOGS
        if create:
            durable.create_directory(self._logs)
        with durable.storage_errors(self._logs):
            is_there = self._logs.is_dir()
        if not is_there:
            raise MissingComponent(f"{path}: no store there; run 'imarium keep --once', or name another with --store")
        for place in (path, self._logs):
            check_owner(place)

    @staticmethod
    def is_begun(path: Path) -> bool:
        """Whether anything is there; one that is being made is an empty directory first. Raises MissingComponent.

        What a file system has of its own at its top counts for nothing.
        """
        with durable.storage_errors(path):
            return path.exists() and any(place.name != _LOST for place in path.iterdir())

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the logs, oldest first."""
        with durable.storage_errors(self._logs):
            names = [entry.name for entry in self._logs.iterdir()]
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))

    def log_number(self, number: int | None) -> int:
        """A log's number, or the newest's. Raises UsageError, MissingComponent."""
        numbers = self.numbers
        if number is None:
            if not numbers:
                raise MissingComponent(f"{self.path}: nothing is kept yet; run 'imarium keep --once'")
            return numbers[-1]
        if number not in numbers:
            raise self._no_log(number)
        return number

    def directory_of(self, number: int) -> Path:
        """The directory of a log, whether it is there or not."""
        return self._logs / f"{number:04}"

    def log(self, number: int | None = None) -> Log:
        """A log by its number, or the newest. Raises UsageError, MissingComponent, MalformedInput."""
        return Log(self.directory_of(self.log_number(number)))

    def changed(self, number: int) -> int:
        """When files of a log came or went last: a number that then differs. Raises UsageError, MissingComponent."""
        try:
            return self.directory_of(number).stat().st_mtime_ns
        except FileNotFoundError:
            raise self._no_log(number) from None
        except OSError as error:
            raise MissingComponent(f"{self._logs}: {error.strerror}") from error

    def newest(self) -> Log | None:
        """The newest log, or None where nothing is kept. Raises as :meth:`log`."""
        return self.log() if self.numbers else None

    def _no_log(self, number: int) -> UsageError:
        return UsageError(f"{self.path}: there is no log {number}; 'imarium log list' shows what there is")

    @property
    def mark(self) -> tuple[int, int]:
        """The newest log's number and its journal's size: it differs whenever custody has written anything."""
        newest = max(self.numbers, default=-1)
        return newest, durable.size_of(self._logs / f"{newest:04}" / JOURNAL_FILE) if newest >= 0 else 0

    def begin(self, meta: LogMeta) -> Log:
        """Begin a new log, durably: it is there whole, or not at all. For the holder of the exclusive lock."""
        number = max(self.numbers, default=-1) + 1
        hidden = self._logs / f"{_HIDDEN}{number:04}"
        final = self._logs / f"{number:04}"
        self.sweep()
        durable.create_directory(hidden)
        for name in (LIST_FILE, JOURNAL_FILE):
            durable.append(hidden / name, b"")
            durable.sync_file(hidden / name)
        durable.replace_file(hidden / META_FILE, meta.to_bytes())
        durable.publish_directory(hidden, final)
        return Log(final)

    def sweep(self) -> None:
        """Remove logs that were never finished being begun, or removed. For the holder of the exclusive lock."""
        with durable.storage_errors(self._logs):
            places = [place for place in self._logs.iterdir() if place.name.startswith((_HIDDEN, _REMOVED))]
        for place in places:
            durable.remove_directory(place)

    def remove(self, number: int) -> None:
        """Delete a log, durably; not the newest. For the holder of the exclusive lock. Raises RefusedOperation."""
        if number == max(self.numbers, default=number):
            raise RefusedOperation(f"{self.path}: log {number} is the newest, which is not deleted")
        durable.publish_directory(self.directory_of(number), self._logs / f"{_REMOVED}{number:04}")
        self.sweep()

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Lock the store: alone to write, or with other readers so that no one writes.

        Readers need not be able to write: a store on a read-only file system can be read. Raises StoreBusy,
        MissingComponent.
        """
        path = self.path / _LOCK
        with durable.storage_errors(path):
            descriptor = _open(path, shared=shared)
        try:
            with durable.storage_errors(path):
                self._acquire(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                if not shared:
                    _sign(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, kind: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = _holder(self.path / _LOCK)
                    raise StoreBusy(f"{self.path}: in use by {holder}; wait for it, or end it") from None
                time.sleep(_PAUSE)
            else:
                return


def _open(path: Path, *, shared: bool) -> int:
    """Open the file to lock: for reading only where there is no other way, as IMA measures what root reads."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_WRONLY | os.O_CREAT, durable.FILE_MODE)
    except OSError as error:
        if not shared or error.errno != errno.EROFS:
            raise
    return os.open(path, flags | os.O_RDONLY)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def _holder(path: Path) -> str:
    """Who holds the lock on a file: from /proc/locks, else the process that last signed it, if it lives."""
    with durable.storage_errors(path):
        status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text("ascii", "replace").splitlines()
    except OSError:
        lines = []
    rows = [line.split() for line in lines if "->" not in line]
    pids = [row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == device and row[4].isdigit()]
    if not pids:
        signed = durable.read_at(path, 0, 32).strip().decode("ascii", "replace")
        pids = [signed] if signed.isdigit() and Path("/proc", signed).exists() else []
    return f"process {', '.join(sorted(set(pids)))}" if pids else "another process"
