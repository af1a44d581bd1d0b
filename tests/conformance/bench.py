"""A place to make checks in: the interface's directory, ways to cause measurements, and short forms of system calls."""

import ctypes
import errno
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

RD, WR, RW = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
WORKPLACE = Path("/run/imarium-conformance")
"""Where measured files lie. Their paths are in the records, so both runs have the same."""

_PREFIX = "runtime_measurements"
_EXIT_FAILED = 99


class Causes(Protocol):
    """Ways to cause measurements. The files are there, closed, and belong to nobody else."""

    def measure(self, path: Path) -> None:
        """Let the file be measured, which adds a record unless one like it was made before."""

    def violate(self, path: Path) -> None:
        """Let the file be read while it is open for writing."""


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a system call returned, or the name of its error."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def outcome(call: Callable[..., Any], *arguments: Any) -> str:
    """``ok``, or the name of the error."""
    result = attempt(call, *arguments)
    return result if isinstance(result, str) and result.startswith("E") else "ok"


class Bench:
    """What a check gets. ``name`` is that of the check and goes into the names of its files."""

    def __init__(self, root: Path, causes: Causes) -> None:
        self.root = root
        self._causes = causes
        self.name = ""
        self._serial = 0

    def begin(self, name: str) -> None:
        """Start a check with both lists empty. Raises RuntimeError where something of the last one is still open."""
        self.name = name
        self._serial = 0
        self.clear()

    def file(self, form: str = "binary", bank: str = "sha1", *, staged: bool = False) -> Path:
        """One of the list files."""
        return self.root / f"{form}_{_PREFIX}_{bank}{'_staged' if staged else ''}"

    @property
    def plain(self) -> Path:
        """The current list, for numbers."""
        return self.file()

    @property
    def staged(self) -> Path:
        """The staged list, for ``A`` and ``D``."""
        return self.file(staged=True)

    def make(self, label: str = "", content: bytes | None = None) -> Path:
        """A new file. The same label and content make the same record."""
        self._serial += 1
        path = WORKPLACE / f"{self.name}-{label or self._serial}"
        path.unlink(missing_ok=True)
        path.write_bytes(b"content of %a\n" % path.name if content is None else content)
        return path

    def measure(self, count: int = 1) -> None:
        """Cause as many new records."""
        for _ in range(count):
            self._causes.measure(self.make())

    def measure_file(self, path: Path) -> None:
        """Let this file be measured."""
        self._causes.measure(path)

    def violate(self) -> None:
        """Cause a violation with a new file."""
        self._causes.violate(self.make())

    def violate_file(self, path: Path) -> None:
        """Cause a violation with this file."""
        self._causes.violate(path)

    def clear(self) -> None:
        """Empty both lists."""
        for _ in range(3):
            if not read(self.staged) and not read(self.plain):
                return
            outcome(command, self.staged, b"D\n")
            outcome(command, self.staged, b"A\n")
        raise RuntimeError(f"{self.name}: the lists cannot be emptied; is a file still open?")

    def arrange(self, state: str) -> None:
        """Bring the empty lists into a state: two staged records, three current ones, both, or none."""
        if state in ("staged", "both"):
            self.measure(2)
            command(self.staged, b"A\n")
        if state in ("current", "both"):
            self.measure(3)

    def counters(self) -> list[Any]:
        """The counter's text, and how many records the current and the staged ASCII list have."""
        lists = [read(self.file("ascii", staged=staged)).count(b"\n") for staged in (False, True)]
        return [read(self.root / "runtime_measurements_count").decode(), *lists]


def read(path: Path) -> bytes:
    """All of a file."""
    with opened(path, RD) as descriptor:
        return drain(descriptor)


def drain(descriptor: int, size: int = 1 << 16) -> bytes:
    """What is left to be read."""
    parts = []
    while part := os.read(descriptor, size):
        parts.append(part)
    return b"".join(parts)


def command(path: Path, text: bytes, flags: int = WR) -> int:
    """Open, one write, close; what write(2) returned."""
    with opened(path, flags) as descriptor:
        return os.write(descriptor, text)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """An open descriptor."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def opens(path: Path, flags: int) -> str:
    """The outcome of opening, and closing again."""

    def call() -> None:
        os.close(os.open(path, flags))

    return outcome(call)


def in_process(call: Callable[[], str]) -> str:
    """What ``call``, which returns a short text, returns in a child that shares nothing but descriptors."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = _EXIT_FAILED
        try:
            os.write(theirs, str(attempt(call)).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
            traceback.print_exc()
        os._exit(status)
    os.close(theirs)
    text = drain(ours).decode()
    os.close(ours)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("a child of the check failed")
    return text


def in_thread(call: Callable[[], Any]) -> Any:
    """What ``call`` returns in another thread of this process."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(attempt(call)))
    thread.start()
    thread.join()
    return results[0]


def libc() -> ctypes.CDLL:
    """The C library, for what Python has no name for."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """The result of a call of the C library. Raises OSError where it is -1."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
