"""Registers as a tree of files, as the RFC of September 2024 has them below ``/sys/kernel/tsm``. No FUSE in here.

``/PROVIDER/REGISTER`` is a file with the register's bytes, or, where events can be appended, a directory:

=============== ===== ==================================================================================
``digest``       0444  the register's bytes; with W 0644, and a write of them at offset 0 extends
``hash_algo``    0444  the hash algorithm's name, without a newline
``append_event`` 0200  each write, of at most a page of text, is one append
``event_log``    0444  the log
=============== ===== ==================================================================================

A register that is not extensible but writable is a file of mode 0644; a write of all its bytes at offset 0 stores.
What is read is as of open, or as of the last write through the same handle. Errors are :class:`TreeError`.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from imarium.errors import ImariumError
from imarium.fuse import Attributes, Caller, TreeError
from imarium.registers.description import Register
from imarium.registers.errors import error_number
from imarium.registers.eventlog import EventLog
from imarium.registers.logs import LoggedProvider

__all__ = ["OpenFile", "RegisterTree"]

_READ, _WRITE = 0o444, 0o200


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the tree. ``snapshot`` gives a function of offset and size that reads what there is now."""

    permissions: int
    size: Callable[[], int]
    snapshot: Callable[[], Callable[[int, int], bytes]]
    write: Callable[[int, bytes], None]


@dataclass(slots=True)
class OpenFile:
    """An open file."""

    _file: _File
    _may_write: bool
    _content: Callable[[int, int], bytes] | None = field(default=None)

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``. Raises TreeError EBADF if it is not open for reading."""
        if self._content is None:
            raise TreeError(errno.EBADF)
        with _as_tree_errors():
            return self._content(offset, size)

    def write(self, offset: int, data: bytes) -> int:
        """Take all of ``data``, or raise TreeError and do nothing."""
        if not self._may_write:
            raise TreeError(errno.EBADF)
        with _as_tree_errors():
            self._file.write(offset, data)
            if self._content is not None:
                self._content = self._file.snapshot()
        return len(data)

    def release(self) -> None:
        """Nothing is held."""


class RegisterTree:
    """The tree of any number of providers. Paths are absolute, such as ``/tdx_guest/rtmr0/digest``.

    Every method raises TreeError: ENOENT, ENOTDIR, EISDIR for paths, EACCES where the mode does not allow it (also
    for root, as in sysfs), EINVAL for a wrong size or offset, E2BIG for more than a page of text, and for a provider
    or log what :func:`imarium.registers.errors.error_number` says.
    """

    def __init__(self, providers: Iterable[LoggedProvider]) -> None:
        self._providers: dict[str, LoggedProvider] = {}
        for logged in providers:
            name = logged.provider.name
            number = 1
            while name in self._providers:
                number += 1
                name = f"{logged.provider.name}-{number}"
            self._providers[name] = logged

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        node = self._node(path)
        if isinstance(node, _File):
            raise TreeError(errno.ENOTDIR)
        return list(node)

    def attributes(self, path: str) -> Attributes:
        """What stat(2) shows of a file or directory."""
        node = self._node(path)
        if isinstance(node, _File):
            with _as_tree_errors():
                return Attributes(stat.S_IFREG | node.permissions, node.size())
        return Attributes(stat.S_IFDIR | 0o555, 0)

    def readlink(self, path: str) -> str:
        """There are no links. Raises TreeError EINVAL."""
        self._node(path)
        raise TreeError(errno.EINVAL)

    def open(self, path: str, flags: int, _caller: Caller | None = None) -> OpenFile:
        """Open a file with the flags of open(2)."""
        node = self._node(path)
        if not isinstance(node, _File):
            raise TreeError(errno.EISDIR)
        reads = flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)
        writes = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        if (reads and not node.permissions & _READ) or (writes and not node.permissions & _WRITE):
            raise TreeError(errno.EACCES)
        with _as_tree_errors():
            return OpenFile(node, writes, node.snapshot() if reads else None)

    def truncate(self, path: str, _length: int = 0) -> None:
        """What a shell's ``>`` asks for first. It changes nothing; files that may not be written refuse it."""
        node = self._node(path)
        if not isinstance(node, _File):
            raise TreeError(errno.EISDIR)
        if not node.permissions & _WRITE:
            raise TreeError(errno.EACCES)

    def _node(self, path: str) -> "dict[str, _Node] | _File":
        node: _Node | dict[str, _Node] = {name: self._provider(logged) for name, logged in self._providers.items()}
        for part in filter(None, path.split("/")):
            if isinstance(node, _File):
                raise TreeError(errno.ENOTDIR)
            names = node if isinstance(node, dict) else node()
            if part not in names:
                raise TreeError(errno.ENOENT)
            node = names[part]
        return node if isinstance(node, dict | _File) else node()

    def _provider(self, logged: LoggedProvider) -> "Callable[[], dict[str, _Node]]":
        def names() -> dict[str, _Node]:
            with _as_tree_errors():
                registers = logged.provider.registers()
            shared = Counter(register.name for register in registers)
            return {
                register.name if shared[register.name] == 1 else register.key: self._register(logged, register)
                for register in registers
            }

        return names

    def _register(self, logged: LoggedProvider, register: Register) -> "_Node":
        digest = _digest_file(logged, register)
        if register.hash is None or not register.extensible:
            return digest
        algorithm = register.hash.name.encode()
        log = logged.log(register)
        nodes: dict[str, _Node] = {
            "digest": digest,
            "hash_algo": _File(_READ, lambda: len(algorithm), lambda: _fixed(algorithm), _refuse),
            "append_event": _File(_WRITE, lambda: 0, lambda: _fixed(b""), lambda _offset, data: _append(log, data)),
            "event_log": _File(_READ, log.size, lambda: _settled(log), _refuse),
        }
        return lambda: nodes


_Node = _File | Callable[[], "dict[str, _Node]"]


@contextmanager
def _as_tree_errors() -> Iterator[None]:
    try:
        yield
    except TreeError:
        raise
    except ImariumError as error:
        raise TreeError(error_number(error), str(error)) from error


def _digest_file(logged: LoggedProvider, register: Register) -> _File:
    provider = logged.provider

    def write(offset: int, data: bytes) -> None:
        if offset != 0 or len(data) != register.size:
            raise TreeError(errno.EINVAL)
        if register.extensible:
            logged.log(register).extend(data)
        else:
            provider.store(register, data)

    permissions = (_READ if register.readable else 0) | (_WRITE if register.writable else 0)
    return _File(permissions, lambda: register.size, lambda: _fixed(provider.read(register)), write)


def _append(log: EventLog, data: bytes) -> None:
    log.append(data)


def _refuse(_offset: int, _data: bytes) -> None:
    raise TreeError(errno.EACCES)


def _fixed(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: content[offset : offset + size]


def _settled(log: EventLog) -> Callable[[int, int], bytes]:
    end = log.settled_size()
    return lambda offset, size: log.read(offset, min(size, end - offset)) if offset < end else b""
