"""What a tree of files offers to whoever mounts it. No FUSE in here.

Paths are absolute within the tree, such as ``/ima/violations``; bytes that are not UTF-8 come as surrogates. Every
method may raise :class:`TreeError`, and the system call of the caller fails with its number.
"""

import os
import stat
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from imarium.errors import ImariumError
from imarium.fuse.caller import Caller

__all__ = ["Attributes", "Change", "ChangeableTree", "FileTree", "Handle", "TreeError"]


class TreeError(ImariumError):
    """An operation on a tree that fails with ``number``, an ``errno``."""

    code = "tree"

    def __init__(self, number: int, reason: str | None = None) -> None:
        self.number = number
        super().__init__(reason or os.strerror(number))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows: ``mode`` with the kind of file, ``size`` in bytes.

    A ``size`` of None is for files that are made while they are read, as the kernel's own: stat(2) shows 0, and
    seeking from the end and syncing fail with EINVAL. With ``syncs`` unset only syncing fails. Owners default to this
    process's, times (in nanoseconds) to when the tree was mounted.
    """

    mode: int
    size: int | None = 0
    syncs: bool = True
    uid: int | None = None
    gid: int | None = None
    accessed: int | None = None
    modified: int | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it has names below it."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Change:
    """What chmod(2), chown(2) or utimensat(2) ask for; None is left as it is. ``mode`` has the permissions only."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    accessed: int | None = None
    modified: int | None = None


class Handle(Protocol):
    """An open file, shared by all descriptors that were copied from the one that open(2) gave."""

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer end the caller's read(2), none is the end of the file."""

    def write(self, offset: int, data: bytes) -> int:
        """How many bytes were taken."""

    def release(self) -> None:
        """The last descriptor is closed. Its errors reach no one."""


class FileTree(Protocol):
    """Directories, files and symbolic links, with fixed names."""

    def attributes(self, path: str, /) -> Attributes:
        """What stat(2) shows, of a link itself."""

    def names(self, path: str, /) -> list[str]:
        """The names in a directory."""

    def readlink(self, path: str, /) -> str:
        """Where a symbolic link points."""

    def open(self, path: str, flags: int, caller: Caller, /) -> Handle:
        """Open a file with the flags of open(2). The mode was checked already, as for any file system."""

    def truncate(self, path: str, length: int, /) -> None:
        """truncate(2) and ftruncate(2); with older FUSE also what opening with O_TRUNC asks for."""


@runtime_checkable
class ChangeableTree(FileTree, Protocol):
    """A tree whose files can be given other modes, owners and times. Of other trees this is EPERM."""

    def change(self, path: str, change: Change, /) -> None:
        """Whether the caller may was checked already."""
