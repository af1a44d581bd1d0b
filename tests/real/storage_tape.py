"""Every write, sync, rename and kernel command of a process, counted, taped, and ended at one of them by SIGKILL.

:class:`Tape` stands between the program and the system, in a child process. :class:`Disk` plays a tape to tell what
a disk holds after a crash that loses what was not synced: file data and names in directories, each for itself.
"""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Loss = Literal["nothing", "all", "data", "half of the data", "names"]
"""What is lost of all that was not synced."""

LOSSES: tuple[Loss, ...] = ("all", "data", "half of the data", "names")
COMMANDS = ("stage", "delete_staged", "delete")


class Tape:
    """Tapes what this process does to files below ``root``, and kills it at break point ``stop``, from 1.

    There is a break point before and after each operation, and one in the middle of each write.
    """

    def __init__(self, root: Path, tape: Path, stop: int | None = None) -> None:
        self.points = 0
        self._root, self._stop = str(root), stop
        self._tape = os.open(tape, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._mine: set[int] = set()
        self._write = os.write

    def install(self, kernel: type) -> None:
        """Stand between, from now on. Only for a process that will end soon."""
        really = {name: getattr(os, name) for name in ("open", "close", "fsync", "ftruncate", "pwrite")}
        os.open = lambda path, flags, *more, **named: self._open(really["open"], path, flags, *more, **named)
        os.close = lambda fd: self._close(really["close"], fd)
        os.write = lambda fd, data: self._written(fd, bytes(data)) if fd in self._mine else self._write(fd, data)
        for name in ("fsync", "ftruncate", "pwrite"):
            setattr(os, name, self._by_descriptor(name, really[name]))
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "truncate"):
            setattr(os, name, self._by_path(name, getattr(os, name)))
        for name in COMMANDS:
            setattr(kernel, name, self._command(name, getattr(kernel, name)))

    def point(self) -> None:
        self.points += 1
        if self.points == self._stop:
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, *operation: object) -> None:
        self._write(self._tape, json.dumps(operation).encode() + b"\n")

    def _is_mine(self, path: object) -> bool:
        place = str(path) if isinstance(path, str | Path) else ""
        return place.startswith(self._root) or place == str(Path(self._root).parent)

    def _open(self, really: Callable[..., int], path: Any, flags: int, *more: Any, **named: Any) -> int:
        if not self._is_mine(path):
            return really(path, flags, *more, **named)
        creates = bool(flags & (os.O_CREAT | os.O_TRUNC))
        if creates:
            self.point()
        descriptor = really(path, flags, *more, **named)
        self._mine.add(descriptor)
        self._note("open", descriptor, str(path), flags)
        if creates:
            self.point()
        return descriptor

    def _close(self, really: Callable[[int], None], descriptor: int) -> None:
        self._mine.discard(descriptor)
        really(descriptor)

    def _written(self, descriptor: int, data: bytes) -> int:
        self.point()
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._write(descriptor, part)
            self._note("write", descriptor, part.hex())
            self.point()
        return len(data)

    def _by_descriptor(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def taped(descriptor: int, *arguments: Any) -> Any:
            if descriptor not in self._mine:
                return really(descriptor, *arguments)
            self.point()
            result = really(descriptor, *arguments)
            self._note(name, descriptor, *(a.hex() if isinstance(a, bytes) else a for a in arguments))
            self.point()
            return result

        return taped

    def _by_path(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def taped(path: Any, *arguments: Any, **named: Any) -> Any:
            if not self._is_mine(path):
                return really(path, *arguments, **named)
            self.point()
            result = really(path, *arguments, **named)
            self._note(name, str(path), *(str(a) if isinstance(a, Path) else a for a in arguments))
            self.point()
            return result

        return taped

    def _command(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def taped(kernel: Any, *arguments: Any) -> None:
            self.point()
            really(kernel, *arguments)
            self._note("command", name)
            self.point()

        return taped


@dataclass
class Inode:
    """A file's data or a directory's names, as the program sees them and as they were when last synced."""

    data: bytes = b""
    synced_data: bytes = b""
    names: dict[str, "Inode"] | None = None
    synced_names: dict[str, "Inode"] = field(default_factory=dict)

    def sync(self) -> None:
        self.synced_data = self.data
        self.synced_names = dict(self.names or {})


class Disk:
    """What a disk holds of ``root``, from a tape. ``at_first`` is a copy of it from before, all of it synced."""

    def __init__(self, root: Path, at_first: Path) -> None:
        self._root = root
        self._top = Inode(names={})
        self._descriptors: dict[int, Inode] = {}
        if at_first.exists():
            self._names(self._top)[root.name] = _load(at_first)
        self._top.sync()

    def play(self, tape: Path) -> list[str]:
        """Play a tape; the names of the operations."""
        played = []
        for line in tape.read_text().splitlines():
            name, *arguments = json.loads(line)
            played.append(name)
            getattr(self, f"_{name}")(*arguments)
        return played

    def put(self, target: Path, loss: Loss) -> None:
        """Make ``target`` what ``root`` is after a crash."""
        found = _after(self._top, loss).get(self._root.name)
        if found is not None:
            _put(found, target, loss)

    def _names(self, inode: Inode) -> dict[str, Inode]:
        assert inode.names is not None
        return inode.names

    def _place(self, path: str) -> tuple[dict[str, Inode], str]:
        parts = Path(path).relative_to(self._root.parent).parts
        inode = self._top
        for part in parts[:-1]:
            inode = self._names(inode)[part]
        return self._names(inode), parts[-1]

    def _open(self, descriptor: int, path: str, flags: int) -> None:
        if Path(path) == self._root.parent:
            self._descriptors[descriptor] = self._top
            return
        names, name = self._place(path)
        inode = names.setdefault(name, Inode()) if flags & os.O_CREAT else names[name]
        if flags & os.O_TRUNC:
            inode.data = b""
        self._descriptors[descriptor] = inode

    def _write(self, descriptor: int, data: str) -> None:
        self._descriptors[descriptor].data += bytes.fromhex(data)

    def _pwrite(self, descriptor: int, data: str, offset: int) -> None:
        inode, new = self._descriptors[descriptor], bytes.fromhex(data)
        inode.data = inode.data[:offset].ljust(offset, b"\0") + new + inode.data[offset + len(new) :]

    def _ftruncate(self, descriptor: int, size: int) -> None:
        inode = self._descriptors[descriptor]
        inode.data = inode.data[:size].ljust(size, b"\0")

    def _fsync(self, descriptor: int) -> None:
        self._descriptors[descriptor].sync()

    def _truncate(self, path: str, size: int) -> None:
        names, name = self._place(path)
        names[name].data = names[name].data[:size].ljust(size, b"\0")

    def _rename(self, path: str, target: str) -> None:
        names, name = self._place(path)
        others, other = self._place(target)
        others[other] = names.pop(name)

    _replace = _rename

    def _mkdir(self, path: str, *_mode: int) -> None:
        names, name = self._place(path)
        names[name] = Inode(names={})

    def _unlink(self, path: str) -> None:
        names, name = self._place(path)
        del names[name]

    _rmdir = _unlink

    def _command(self, _name: str) -> None:
        """The kernel is no disk."""


def _load(path: Path) -> Inode:
    if path.is_dir():
        inode = Inode(names={entry.name: _load(entry) for entry in path.iterdir()})
    else:
        inode = Inode(data=path.read_bytes())
    inode.sync()
    return inode


def _after(directory: Inode, loss: Loss) -> dict[str, Inode]:
    return directory.synced_names if loss in {"all", "names"} else directory.names or {}


def _put(inode: Inode, target: Path, loss: Loss) -> None:
    if inode.names is not None:
        target.mkdir(mode=0o700)
        for name, below in _after(inode, loss).items():
            _put(below, target / name, loss)
        return
    data = inode.data
    if loss in {"all", "data"}:
        data = inode.synced_data
    elif loss == "half of the data" and inode.data != inode.synced_data:
        data = inode.data[: (len(inode.synced_data) + len(inode.data)) // 2]
    target.write_bytes(data)
    target.chmod(0o600)
