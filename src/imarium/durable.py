"""Files that outlive a crash: every durable write and sync is made here, in the order that makes it safe.

A file is on stable storage when it is synced, and there to be found when its directory is. An append is written
whole, then synced. A replacement is written beside, synced, renamed, and the directory synced.

Nothing is opened for reading that is only written or synced: IMA measures what root opens for reading, and who keeps
the measurement list must not add to it.
"""

import errno
import os
import re
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium.errors import ImariumError, MissingComponent

__all__ = [
    "OpenFile",
    "append",
    "append_blocks",
    "create_directory",
    "is_there",
    "publish_directory",
    "publish_file",
    "read_at",
    "read_blocks",
    "remove_directory",
    "remove_file",
    "replace_blocks",
    "replace_file",
    "replace_unread",
    "size_of",
    "state_directory",
    "storage_errors",
    "sweep",
    "sync_directory",
    "sync_file",
    "truncate",
]

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
BLOCK = 1 << 18
_BESIDE = re.compile(r"\.[0-9a-f]{16}\.new", re.ASCII)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors into MissingComponent, which names ``path``."""
    try:
        yield
    except OSError as error:
        lost = error.errno in {errno.ENOENT, errno.ENOTDIR}
        advice = "name a place that is there" if lost else "make room or give access, then run again"
        raise MissingComponent(f"{path}: {error.strerror}; {advice}") from error


def append(path: Path, data: bytes) -> None:
    """Write ``data`` to the end of the file, creating it. Not synced."""
    append_blocks(path, [data], size=len(data))


def append_blocks(
    path: Path, blocks: Iterable[bytes], *, size: int, halfway: Callable[[], None] = lambda: None
) -> None:
    """Write ``blocks``, of ``size`` bytes together, to the end of the file, creating it. Not synced.

    ``halfway`` is called in the middle.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            _append(descriptor, blocks, size, halfway)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Bring the file to stable storage, and out of the page cache so that the next read shows what is stored."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


class OpenFile:
    """A file that stays open to append to, sync and read back, so that it need not be opened anew for each.

    IMA measures a file that root opens for reading if it changed since, but nothing is measured at a file that stays
    open. Methods raise MissingComponent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.close = weakref.finalize(self, os.close, self._descriptor)
        """Closes it, once; so does the end of this object."""

    def append_blocks(self, blocks: Iterable[bytes], *, size: int, halfway: Callable[[], None] = lambda: None) -> None:
        """As the function of this name."""
        with storage_errors(self.path):
            _append(self._descriptor, blocks, size, halfway)

    def sync(self) -> None:
        """As :func:`sync_file`."""
        with storage_errors(self.path):
            _sync(self._descriptor)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, and no other was put there."""
        with storage_errors(self.path):
            return os.path.samestat(os.fstat(self._descriptor), self.path.lstat())

    def read_blocks(self, start: int, end: int) -> Iterator[bytes]:
        """As the function of this name."""
        with storage_errors(self.path):
            yield from _read(self._descriptor, self.path, start, end)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to stable storage."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def truncate(path: Path, size: int) -> None:
    """Cut the file to ``size`` bytes, durably."""
    with storage_errors(path):
        os.truncate(path, size)
    sync_file(path)


def replace_file(path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Put ``data`` in place of the file, with this mode, durably: a crash leaves the old content or the new, whole.

    A crash can leave a file beside it, whose name no one can foresee: ``.`` and 16 digits, ``.new``.
    """
    replace_blocks(path, [data], mode=mode)


def replace_blocks(path: Path, blocks: Iterable[bytes], *, mode: int = FILE_MODE) -> None:
    """:func:`replace_file` for what does not fit into memory twice. What ``blocks`` raises leaves the old content."""
    beside = path.parent / f".{secrets.token_hex(8)}.new"  # of "." and "/" too, which then cannot be replaced
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors(path):
        descriptor = os.open(beside, flags, FILE_MODE)
        try:
            try:
                if mode != FILE_MODE:  # whatever the umask; not every file system has modes
                    os.fchmod(descriptor, mode)
                for block in blocks:
                    _write_all(descriptor, block)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            beside.replace(path)
        except (OSError, ImariumError):
            beside.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def sweep(directory: Path) -> None:
    """Remove what crashes of :func:`replace_file` left. Only for who alone writes in the directory."""
    with storage_errors(directory):
        for entry in directory.iterdir():
            if _BESIDE.fullmatch(entry.name):
                entry.unlink()


def replace_unread(path: Path, data: bytes) -> None:
    """:func:`replace_file` without opening any file for reading.

    IMA measures the files that root opens for reading. Who writes down how far it has followed a measurement list must
    not add to that list by it.
    """
    beside = path.with_name(f".{path.name}.new")
    with storage_errors(beside):
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    with storage_errors(path):
        beside.replace(path)
    sync_directory(path.parent)


def create_directory(path: Path) -> None:
    """Make a directory that only its owner may enter, and those above it, durably. It may exist."""
    with storage_errors(path):
        missing = [place for place in (path, *path.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            sync_directory(place.parent)


def publish_directory(hidden: Path, final: Path) -> None:
    """Give a directory that is filled and synced its final name, durably."""
    sync_directory(hidden)
    with storage_errors(final):
        hidden.rename(final)
    sync_directory(final.parent)


def publish_file(hidden: Path, final: Path) -> None:
    """Give a file that is written and synced its final name, durably."""
    with storage_errors(final):
        hidden.rename(final)
    sync_directory(final.parent)


def remove_file(path: Path) -> None:
    """Remove a file, durably. It may be gone."""
    with storage_errors(path):
        path.unlink(missing_ok=True)
    sync_directory(path.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory that has only files, durably. A crash leaves some of its files, or none of it."""
    with storage_errors(path):
        for entry in sorted(path.iterdir()):
            entry.unlink()
        path.rmdir()
    sync_directory(path.parent)


def state_directory(option: str) -> Path:
    """Where files are kept unless told: below /var/lib for root, else in the user's state directory.

    Raises MissingComponent for a user without a home; ``option`` is what names another place.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/imarium")
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG Base Directory Specification has others ignored
        return state / "imarium"
    try:
        return Path.home() / ".local" / "state" / "imarium"
    except RuntimeError as error:
        raise MissingComponent(f"you have no home directory to keep anything in; name a place with {option}") from error


def is_there(path: Path) -> bool:
    """Whether the name is taken, be it by a link that leads nowhere. Raises MissingComponent if it cannot be told."""
    with storage_errors(path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def size_of(path: Path) -> int:
    """The size of a file in bytes. Raises MissingComponent."""
    with storage_errors(path):
        return path.stat().st_size


def read_blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end``, in blocks. Raises MissingComponent, also if the file ends before."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield from _read(descriptor, path, start, end)
        finally:
            os.close(descriptor)


def read_at(path: Path, start: int, size: int) -> bytes:
    """The ``size`` bytes from ``start`` on, fewer only where the file ends before. Raises MissingComponent."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)


def _append(descriptor: int, blocks: Iterable[bytes], size: int, halfway: Callable[[], None]) -> None:
    before = size // 2
    for block in blocks:
        if 0 <= before < len(block):
            _write_all(descriptor, block[:before])
            halfway()
            _write_all(descriptor, block[before:])
        else:
            _write_all(descriptor, block)
        before -= len(block)
    if not size:
        halfway()


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _read(descriptor: int, path: Path, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(descriptor, min(BLOCK, end - start), start)
        if not block:
            raise MissingComponent(f"{path}: ends at byte {start}, but {end} were kept; restore it")
        start += len(block)
        yield block


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
