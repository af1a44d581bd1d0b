"""The register tree as a mounted file system: an adapter from FUSE to :mod:`imarium.registers.tree`.

It runs in the foreground, in one thread, until SIGTERM, SIGINT or SIGHUP, or until it is unmounted; then it unmounts.
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

from imarium.errors import MissingComponent
from imarium.registers.tree import Handle, RegisterTree, TreeError

__all__ = ["mount"]

_INSTALL = "apt install fuse3 (or libfuse3-3 for root alone) and pip install 'imarium[fuse]'"


def mount(
    tree: RegisterTree, place: Path, *, ready: Callable[[], None] = lambda: None, allow_other: bool = False
) -> None:
    """Serve the tree at ``place``, an empty directory, until told to stop.

    ``ready`` is called when it is mounted; ``allow_other`` lets other users in, as the modes say. Raises
    MissingComponent where FUSE is not there or does not let us mount.
    """
    library = _library()
    if not place.is_dir():
        raise MissingComponent(f"{place}: not a directory; make it first")
    options = {"allow_other": True} if allow_other else {}
    if library.fuse_version_major == 2:
        options["big_writes"] = True  # else it cuts writes at a page, and each part would be an append of its own
    operations = _Operations(tree, ready)
    try:
        library.FUSE(
            operations,
            str(place.absolute()),
            foreground=True,
            nothreads=True,
            direct_io=True,
            attr_timeout=0,  # the log's size changes with each append, also with those of other processes
            entry_timeout=0,
            default_permissions=True,
            fsname="imarium-registers",
            subtype="imarium",
            **options,
        )
    except RuntimeError as error:
        if operations.mounted:  # a signal ended it: libfuse makes that a status of its own
            return
        raise MissingComponent(f"{place}: FUSE could not mount there; is /dev/fuse there? else {_INSTALL}") from error


def _library() -> Any:  # noqa: ANN401 - an untyped library
    try:
        return importlib.import_module("mfusepy")
    except (ImportError, OSError, AttributeError) as error:
        raise MissingComponent(f"FUSE is not installed: {_INSTALL}") from error


def _not_permitted(*_arguments: object) -> NoReturn:
    """The names, modes and owners of the tree are fixed."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class _Operations:
    """What FUSE asks for. Methods are called by name, with a path and the number of an open file."""

    use_ns = True
    chmod = chown = create = link = mkdir = mknod = rename = rmdir = symlink = unlink = utimens = staticmethod(
        _not_permitted
    )

    def __init__(self, tree: RegisterTree, ready: Callable[[], None]) -> None:
        self._tree = tree
        self._ready = ready
        self.mounted = False
        self._handles: dict[int, Handle] = {}
        self._numbers = count(1)
        self._now = time.time_ns()

    def init(self, _path: str) -> None:
        """The mount is there."""
        self.mounted = True
        self._ready()

    def destroy(self, _path: str) -> None:
        """The mount is gone."""
        self._handles.clear()

    def getattr(self, path: str, _number: int | None = None) -> dict[str, int]:
        """stat(2)."""
        with _Answering():
            found = self._tree.attributes(path)
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._now)
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        links = 2 if stat.S_ISDIR(found.mode) else 1
        return {"st_mode": found.mode, "st_size": found.size, "st_nlink": links, **owner, **times}

    def readdir(self, path: str, _number: int) -> list[str]:
        """The names in a directory."""
        with _Answering():
            return [".", "..", *self._tree.names(path)]

    def open(self, path: str, flags: int) -> int:
        """The number of a newly opened file."""
        with _Answering():
            handle = self._tree.open(path, flags)
        number = next(self._numbers)
        self._handles[number] = handle
        return number

    def read(self, _path: str, size: int, offset: int, number: int) -> bytes:
        """Bytes as of open."""
        with _Answering():
            return self._handles[number].read(offset, size)

    def write(self, _path: str, data: bytes, offset: int, number: int) -> int:
        """One write(2)."""
        with _Answering():
            return self._handles[number].write(offset, data)

    def truncate(self, path: str, _length: int, _number: int | None = None) -> None:
        """Part of opening with O_TRUNC."""
        with _Answering():
            self._tree.truncate(path)

    def release(self, _path: str, number: int) -> None:
        """The last descriptor of an open file is closed."""
        del self._handles[number]


class _Answering:
    """Turns the tree's errors into those that FUSE passes on."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, TreeError):
            raise OSError(error.number, os.strerror(error.number)) from error
