"""The files of the directory, each with what opening it asks for and what is then read and written."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from imarium.engine import MeasurementQueue, PolicyBusy, PolicyFile, PolicyRefused, PolicyUpdate
from imarium.fuse import CAP_SYS_ADMIN, Caller, Handle, TreeError
from imarium.hashes import HashAlgorithm
from imarium.securityfs.tree.commands import command_current, command_staged
from imarium.securityfs.tree.listing import Encode, Listing
from imarium.securityfs.tree.lock import ListLock
from imarium.securityfs.tree.seqfile import Marks, SeqFile

__all__ = ["Counter", "ListFile", "PolicyNode"]


def _access(flags: int) -> tuple[bool, bool]:
    """Whether the flags of open(2) ask for reading and for writing."""
    mode = flags & os.O_ACCMODE
    return mode in (os.O_RDONLY, os.O_RDWR), mode in (os.O_WRONLY, os.O_RDWR)


@dataclass(frozen=True, slots=True)
class Counter:
    """A number that is looked up at each read. Nothing can be written, although root may open it for that."""

    permissions: int
    value: Callable[[], int]
    has_end: bool = True

    def open(self, _flags: int, _caller: Caller) -> Handle:
        """Anybody whom the mode lets in."""
        return _CounterHandle(self.value)


@dataclass(frozen=True, slots=True)
class _CounterHandle:
    _value: Callable[[], int]

    def read(self, offset: int, size: int) -> bytes:
        return (b"%d\n" % self._value())[offset : offset + size]

    def write(self, _offset: int, _data: bytes) -> int:
        raise TreeError(errno.EINVAL)

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ListFile:
    """A measurement list in one form and bank. ``lock`` is shared by all; without one nothing can be written."""

    permissions: int
    queue: MeasurementQueue
    bank: HashAlgorithm
    encode: Encode
    staged: bool
    lock: ListLock | None
    marks: Marks = field(default_factory=Marks)
    has_end: bool = False

    def open(self, flags: int, caller: Caller) -> Handle:
        """For write with CAP_SYS_ADMIN only (EPERM), and then as the lock lets (EBUSY)."""
        _, write = _access(flags)
        if self.lock is not None:
            if write and not caller.has_capability(CAP_SYS_ADMIN):
                raise TreeError(errno.EPERM)
            self.lock.enter(caller.task() if write else None, write=write)
        return _ListHandle(self, write)


class _ListHandle:
    def __init__(self, file: ListFile, write: bool) -> None:
        self._file = file
        self._write = write
        listing = Listing(file.queue, file.bank, file.encode, staged=file.staged)
        self._records = SeqFile(listing.now, file.marks)

    def read(self, offset: int, size: int) -> bytes:
        return self._records.read(offset, size)

    def write(self, _offset: int, data: bytes) -> int:
        if self._file.lock is None:
            raise TreeError(errno.EINVAL)
        command = command_staged if self._file.staged else command_current
        command(self._file.queue, data)
        return len(data)

    def release(self) -> None:
        if self._file.lock is not None:
            self._file.lock.leave(write=self._write)


@dataclass(frozen=True, slots=True)
class PolicyNode:
    """The policy: read by those with CAP_SYS_ADMIN (EPERM), written by one at a time (EBUSY), never both (EACCES)."""

    permissions: int
    policy: PolicyFile
    has_end: bool = True

    def open(self, flags: int, caller: Caller) -> Handle:
        """Rules that were written come into force when the file is released."""
        read, write = _access(flags)
        if write and not read:
            try:
                return _PolicyWriter(self.policy.begin())
            except PolicyBusy as error:
                raise TreeError(errno.EBUSY) from error
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise TreeError(errno.EACCES)
        if not caller.has_capability(CAP_SYS_ADMIN):
            raise TreeError(errno.EPERM)
        return _PolicyReader(self.policy)


class _PolicyReader:
    def __init__(self, policy: PolicyFile) -> None:
        self._lines = SeqFile(lambda: _Lines(policy.text()))

    def read(self, offset: int, size: int) -> bytes:
        return self._lines.read(offset, size)

    def write(self, _offset: int, _data: bytes) -> int:
        raise TreeError(errno.EBADF)

    def release(self) -> None: ...


class _PolicyWriter:
    def __init__(self, update: PolicyUpdate) -> None:
        self._update = update
        self._taken = 0

    def read(self, _offset: int, _size: int) -> bytes:
        raise TreeError(errno.EBADF)

    def write(self, offset: int, data: bytes) -> int:
        """At the kernel's file the position stays 0; here it moves with each write."""
        try:
            taken = self._update.write(data, 0 if offset == self._taken else offset)
        except PolicyRefused as error:
            raise TreeError(error.number, str(error)) from error
        self._taken += taken
        return taken

    def release(self) -> None:
        self._update.release()


class _Lines:
    """The policy's text, a line for each rule."""

    def __init__(self, text: bytes) -> None:
        self.version: object = text
        self._lines = text.splitlines(keepends=True)

    def __call__(self, index: int) -> bytes | None:
        return self._lines[index] if index < len(self._lines) else None
