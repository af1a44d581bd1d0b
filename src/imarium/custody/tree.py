"""The whole list as the files that the kernel has for it, as if nothing had been staged. No FUSE in here.

================================== ===== ==================================================================
``ascii_runtime_measurements_ALG``  0440  the list as text, with the template digests of a bank
``binary_runtime_measurements_ALG`` 0440  the same in the kernel's binary form
``{ascii,binary}_runtime_...``      link  to those with SHA-1
``runtime_measurements_count``      0440  how many records the list has
``violations``                      0440  how many violations there were
================================== ===== ==================================================================

As with the kernel's files, stat(2) shows no size, and who has read a list up to its end can read on when it has grown.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imarium.custody.forms import Form, FormReader, Places
from imarium.custody.view import View, WholeList
from imarium.errors import ImariumError
from imarium.formats.records import read_records
from imarium.fuse import Attributes, Caller, TreeError
from imarium.hashes import SHA1, HashAlgorithm
from imarium.securityfs import ListBusy

__all__ = ["ListTree"]

_COUNT, _VIOLATIONS = "runtime_measurements_count", "violations"
_LIST = "runtime_measurements"


class ListTree:
    """The files of a view, for each of ``algorithms`` and SHA-1.

    ``violations`` is how many the kernel has counted; without it the list's own are counted. Methods raise TreeError:
    EBUSY as long as someone else holds the kernel's lists and nothing was read before, EIO for a list or a store that
    cannot be read.
    """

    def __init__(
        self, view: View, algorithms: Iterable[HashAlgorithm], *, violations: Callable[[], int] | None = None
    ) -> None:
        self._view = view
        self._violations = violations or _Violations(view)
        self._links: dict[str, str] = {}
        self._lists: dict[str, Form] = {}
        for name, is_text in (("ascii", True), ("binary", False)):
            self._links[f"{name}_{_LIST}"] = f"{name}_{_LIST}_{SHA1.name}"
            for algorithm in dict.fromkeys([SHA1, *algorithms]):
                self._lists[f"{name}_{_LIST}_{algorithm.name}"] = Form(is_text, algorithm)
        self._numbers = {_COUNT: lambda: view.now().records, _VIOLATIONS: self._violations}
        self._places: dict[Form, tuple[WholeList, Places]] = {}

    def attributes(self, path: str) -> Attributes:
        """What stat(2) shows."""
        name = path.lstrip("/")
        if not name:
            return Attributes(stat.S_IFDIR | 0o555, 0)
        if name in self._links:
            return Attributes(stat.S_IFLNK | 0o777, len(self._links[name]))
        if name in self._lists or name in self._numbers:
            return Attributes(stat.S_IFREG | 0o440, None)
        raise TreeError(errno.ENOENT)

    def names(self, path: str) -> list[str]:
        """The names in the directory."""
        if path.strip("/"):
            self.attributes(path)
            raise TreeError(errno.ENOTDIR)
        return sorted([*self._links, *self._lists, *self._numbers])

    def readlink(self, path: str) -> str:
        """Where a link points."""
        name = path.lstrip("/")
        if name not in self._links:
            self.attributes(path)
            raise TreeError(errno.EINVAL)
        return self._links[name]

    def open(self, path: str, flags: int, _caller: Caller | None = None) -> "_Handle":
        """Open a file for reading."""
        name = path.lstrip("/")
        if self.attributes(path).is_directory:
            raise TreeError(errno.EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise TreeError(errno.EACCES)
        with _Answering():
            if name in self._numbers:
                return _Handle(_Fixed(b"%d\n" % self._numbers[name]()))
            return _Handle(self._list(self._lists[self._links.get(name, name)]))

    def truncate(self, _path: str, _length: int) -> None:
        """No file may be written. Raises TreeError EACCES."""
        raise TreeError(errno.EACCES)

    def _list(self, form: Form) -> "_List":
        whole = self._view.now()
        known, places = self._places.get(form, (None, Places()))
        if known is not whole:
            places = Places()
            self._places[form] = whole, places
        reader = whole.read if form.is_kept else FormReader(whole, form, places).read
        return _List(self._view, whole, reader)


_Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Content as of open."""

    content: bytes

    def __call__(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]


@dataclass(frozen=True, slots=True)
class _List:
    """A list, read on behind what was its end."""

    view: View
    whole: WholeList
    read: _Read

    def __call__(self, offset: int, size: int) -> bytes:
        data = self.read(offset, size)
        if data or self.view.now() is not self.whole:
            return data
        return self.read(offset, size)


@dataclass(frozen=True, slots=True)
class _Handle:
    """An open file."""

    _read: _Read

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        with _Answering():
            return self._read(offset, size)

    def write(self, _offset: int, _data: bytes) -> int:
        """Nothing is open for writing. Raises TreeError EBADF."""
        raise TreeError(errno.EBADF)

    def release(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class _Violations:
    """Counts the violations of a list; those it has counted it does not look at again."""

    view: View
    whole: WholeList | None = None
    offset: int = field(default=0)
    violations: int = field(default=0)

    def __call__(self) -> int:
        whole = self.view.now()
        if whole is not self.whole:
            self.whole, self.offset, self.violations = whole, 0, 0
        for record in read_records(whole.blocks(self.offset), whole.layout, offset=self.offset):
            self.violations += record.is_violation
            self.offset = record.offset + record.size
        return self.violations


class _Answering:
    """Turns imarium's errors into those of system calls."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ImariumError) and not isinstance(error, TreeError):
            raise TreeError(errno.EBUSY if isinstance(error, ListBusy) else errno.EIO, str(error)) from error
