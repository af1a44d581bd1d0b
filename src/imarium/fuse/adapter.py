"""From FUSE to a :class:`~imarium.fuse.tree.FileTree`.

It serves in one thread, so that a release is seen before the next open, and past the page cache, so that each read and
each write of a caller is one of the tree's (writes of more than a page count, where FUSE cuts them, arrive in parts).
"""

import errno
import importlib
import os
import stat
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from imarium.errors import ImariumError, MissingComponent
from imarium.fuse.caller import Caller
from imarium.fuse.place import check
from imarium.fuse.tree import Change, ChangeableTree, FileTree, Handle, TreeError

__all__ = ["mount", "require_library", "require_mountable"]

_MAX_RELEASES = (1 << 16) - 1
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
"""UTIME_NOW and UTIME_OMIT of sys/stat.h, which come as nanoseconds of the first second."""

_INSTALL = "apt install fuse3 (or libfuse3-3 for root alone) and pip install 'imarium[fuse]'"


def mount(
    tree: FileTree, place: Path, *, fsname: str, ready: Callable[[], None] = lambda: None, allow_other: bool = False
) -> None:
    """Serve the tree at ``place``, an empty directory, until it is unmounted.

    In the main thread, SIGTERM, SIGINT and SIGHUP unmount too, where they have no handler of the process; in another
    thread only :func:`imarium.fuse.unmount` ends it. ``fsname`` is what /proc/mounts shows as its source; ``ready`` is
    called when it is mounted; ``allow_other`` lets other users in, as the modes say. Raises UsageError for a place that
    is in use, MissingComponent for one that is not there, and where FUSE is not there or does not let us mount.
    """
    library = _library()
    check(place)
    options = {"allow_other": True} if allow_other else {}
    if library.fuse_version_major == 2:
        options["big_writes"] = True  # else it cuts writes at a page, and each part would be one of its own
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def mounted() -> None:
        os.fchdir(here)  # libfuse has changed to the root directory
        ready()

    operations = _Operations(tree, library.fuse_get_context, mounted)
    try:
        library.FUSE(
            operations,
            str(place.absolute()),
            foreground=True,
            nothreads=True,
            direct_io=True,
            attr_timeout=0,  # sizes change with each append, also with those of other processes
            entry_timeout=0,
            default_permissions=True,
            fsname=fsname,
            subtype="imarium",
            **options,
        )
    except RuntimeError as error:
        if operations.mounted:  # a signal ended it: libfuse makes that a status of its own
            return
        raise MissingComponent(f"{place}: FUSE could not mount there; is /dev/fuse there? else {_INSTALL}") from error
    finally:
        os.close(here)


def require_library() -> None:
    """Raises MissingComponent, with what to install, where the library that :func:`mount` needs is not there."""
    _library()


def require_mountable(place: Path) -> None:
    """Raises what :func:`mount` does, as far as that is known before."""
    _library()
    check(place)


def _library() -> Any:  # noqa: ANN401 - an untyped library
    try:
        return importlib.import_module("mfusepy")
    except (ImportError, OSError, AttributeError) as error:
        raise MissingComponent(f"FUSE is not installed: {_INSTALL}") from error


def _fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


def _not_permitted(*_arguments: object) -> NoReturn:
    """The names of a tree are fixed, and of some trees everything about them."""
    _fail(errno.EPERM)


def _moment(time_ns: int) -> int | None:
    if time_ns == _OMIT:
        return None
    return time.time_ns() if time_ns == _NOW else time_ns


class _Operations:
    """What FUSE asks for. Methods are called by name, with a path and the number of an open file."""

    use_ns = True
    link = mkdir = rename = rmdir = symlink = unlink = staticmethod(_not_permitted)

    def __init__(self, tree: FileTree, context: Callable[[], tuple[int, int, int]], ready: Callable[[], None]) -> None:
        self._tree = tree
        self._context = context
        self._ready = ready
        self.mounted = False
        self._handles: dict[int, Handle] = {}
        self._numbers = count(1)
        self._truncated: str | None = None
        self._now = time.time_ns()

    def init_with_config(self, connection: Any, _configuration: Any) -> None:  # noqa: ANN401 - untyped structures
        """The mount is there. The kernel holds a release back only if that many wait, and lets opens go before it."""
        connection.max_background = _MAX_RELEASES
        self.mounted = True
        self._ready()

    def destroy(self, _path: str) -> None:
        """The mount is gone, and with it all that was open."""
        while self._handles:
            self._handles.popitem()[1].release()

    def getattr(self, path: str, number: int | None = None) -> dict[str, int]:
        """stat(2). A number comes with a seek from the end, and from libfuse after ftruncate(2)."""
        with _Answering():
            found = self._tree.attributes(path)
        truncated, self._truncated = self._truncated, None
        if found.size is None and number is not None and path != truncated:
            _fail(errno.EINVAL)
        return {
            "st_mode": found.mode,
            "st_size": found.size or 0,
            "st_nlink": 2 if found.is_directory else 1,
            "st_uid": os.getuid() if found.uid is None else found.uid,
            "st_gid": os.getgid() if found.gid is None else found.gid,
            "st_atime": self._now if found.accessed is None else found.accessed,
            "st_mtime": self._now if found.modified is None else found.modified,
            "st_ctime": self._now,
        }

    def readdir(self, path: str, _number: int) -> list[str]:
        """The names in a directory."""
        with _Answering():
            return [".", "..", *self._tree.names(path)]

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        with _Answering():
            return self._tree.readlink(path)

    def create(self, _path: str, _mode: int) -> NoReturn:
        """Opening with O_CREAT what is not there: refused as the kernel's own trees do."""
        _fail(errno.EACCES)

    def mknod(self, _path: str, mode: int, _device: int) -> NoReturn:
        """mknod(2): a regular file is refused as one that is created."""
        _fail(errno.EACCES if stat.S_ISREG(mode) else errno.EPERM)

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        self._change(path, Change(mode=stat.S_IMODE(mode)))

    def chown(self, path: str, uid: int, gid: int) -> None:
        """chown(2); -1 is as it is."""
        self._change(path, Change(uid=uid if uid >= 0 else None, gid=gid if gid >= 0 else None))

    def utimens(self, path: str, times: tuple[int, int] | None) -> None:
        """utimensat(2)."""
        accessed, modified = map(_moment, times or (_NOW, _NOW))
        self._change(path, Change(accessed=accessed, modified=modified))

    def open(self, path: str, flags: int) -> int:
        """The number of a newly opened file."""
        uid, gid, tid = self._context()
        with _Answering():
            handle = self._tree.open(path, flags, Caller(tid, uid, gid))
        number = next(self._numbers)
        self._handles[number] = handle
        return number

    def read(self, _path: str, size: int, offset: int, number: int) -> bytes:
        """One read(2), or a part of a large one."""
        with _Answering():
            return self._handles[number].read(offset, size)

    def write(self, _path: str, data: bytes, offset: int, number: int) -> int:
        """One write(2), or a part of a large one."""
        with _Answering():
            return self._handles[number].write(offset, data)

    def truncate(self, path: str, length: int, _number: int | None = None) -> None:
        """truncate(2), and with older FUSE a part of opening with O_TRUNC."""
        with _Answering():
            self._tree.truncate(path, length)
        self._truncated = path

    def listxattr(self, _path: str) -> list[str]:
        """There are no extended attributes."""
        return []

    def fsync(self, path: str, _data_only: int, _number: int) -> None:
        """fsync(2)."""
        with _Answering():
            found = self._tree.attributes(path)
        if found.size is None or not found.syncs:
            _fail(errno.EINVAL)

    def release(self, _path: str, number: int) -> None:
        """The last descriptor of an open file is closed."""
        self._handles.pop(number).release()

    def _change(self, path: str, change: Change) -> None:
        if not isinstance(self._tree, ChangeableTree):
            _not_permitted()
        with _Answering():
            self._tree.change(path, change)


class _Answering:
    """Turns imarium's errors into those that FUSE passes on."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ImariumError):
            number = error.number if isinstance(error, TreeError) else errno.EIO
            raise OSError(number, os.strerror(number)) from error
