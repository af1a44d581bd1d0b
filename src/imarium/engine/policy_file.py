"""The ``policy`` file: the rules in force, and how rules are added by writing, as the kernel takes them.

A file opened for writing collects rules. Each write gives one line, or the absolute path of a file of rules. If none of
the writes was refused, the rules come into force together when the file is released. The first rules that are added
take the place of the built-in ones, later ones are appended.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from imarium.engine.policy import Policy
from imarium.engine.policy_errors import PolicyBusy, PolicyRefused
from imarium.engine.policy_parse import parse_line
from imarium.engine.policy_rule import Rule

__all__ = ["MAX_POLICY_FILE", "PolicyFile", "PolicyUpdate"]

MAX_WRITE = 4095
"""Bytes of one write that the kernel looks at."""

_PATIENCE = 3.0
"""Seconds that a file of rules may take to be read."""

MAX_POLICY_FILE = 1 << 24
"""Largest file of rules taken, in bytes."""

PathRead = Callable[[Path, bytes], None]
DataWritten = Callable[[bytes], None]


def _nobody(*_anything: object) -> None:
    """Tell nobody."""


class PolicyFile:
    """Which policy is in force. ``policy`` can be read at any time from any thread.

    ``read`` is told of each file of rules and its content before its rules are looked at, ``written`` of each write of
    rules, ``loaded`` of the text of the whole policy after it has changed: the kernel measures these three.
    """

    def __init__(
        self,
        builtin: Policy | None = None,
        *,
        read: PathRead = _nobody,
        written: DataWritten = _nobody,
        loaded: DataWritten = _nobody,
    ) -> None:
        self.policy = builtin or Policy()
        self._custom = False
        self._read = read
        self._written = written
        self._loaded = loaded
        self._writing = threading.Lock()

    def text(self) -> bytes:
        """The content of the file."""
        return self.policy.text()

    def begin(self) -> "PolicyUpdate":
        """Open for writing. Raises PolicyBusy where it is open for writing already."""
        if not self._writing.acquire(blocking=False):
            raise PolicyBusy
        return PolicyUpdate(self, self._read, self._written)

    def append(self, data: bytes) -> None:
        """Open, write all of ``data`` (rules on lines, or an absolute path), and release.

        Raises PolicyBusy, and PolicyRefused, after which nothing has changed. Data without a rule changes nothing.
        """
        update = self.begin()
        try:
            while data:
                data = data[update.write(data) :]
        finally:
            update.release()

    def _finish(self, rules: list[Rule]) -> None:
        """Put collected rules in force and let the next writer in."""
        try:
            if rules:
                self.policy = Policy((*(self.policy.rules if self._custom else ()), *rules))
                self._custom = True
        finally:
            self._writing.release()
        if rules:
            self._loaded(self.text())


class PolicyUpdate:
    """The file opened for writing. It must be released, whatever its writes came to."""

    def __init__(self, file: PolicyFile, read: PathRead, written: DataWritten) -> None:
        self._file = file
        self._read = read
        self._written = written
        self._rules: list[Rule] = []
        self._valid = True
        self._released = False

    def write(self, data: bytes, offset: int = 0) -> int:
        """Take one line, or a path; how many bytes that were: the rest is for the next write.

        (For a last line without its newline the kernel returns one more than it was given. That is not done here.)
        After a refused write nothing of this file comes into force, but further writes are looked at.

        Raises:
            PolicyRefused: a malformed rule, a file that cannot be read (with its errno), or an offset.
        """
        try:
            return self._write(data, offset)
        except PolicyRefused:
            self._valid = False
            raise

    def release(self) -> None:
        """Close the file: if nothing was refused, the rules come into force. Twice does nothing more."""
        if not self._released:
            self._released = True
            self._file._finish(self._rules if self._valid else [])

    def _write(self, data: bytes, offset: int) -> int:
        if offset:
            raise PolicyRefused("rules are written at the file's start, each write by itself")
        seen = data[:MAX_WRITE]
        if seen.startswith(b"/"):
            self._rules += self._rules_of(Path(os.fsdecode(seen.partition(b"\0")[0].partition(b"\n")[0])))
            return len(seen)
        self._written(seen)
        line = seen.partition(b"\0")[0].partition(b"\n")[0]
        self._take(line)
        return min(len(line) + 1, len(data))

    def _take(self, line: bytes) -> None:
        if (rule := parse_line(line)) is not None:
            self._rules.append(rule)

    def _rules_of(self, path: Path) -> list[Rule]:
        """The rules of a file, all of them or none. Its last line must have its newline."""
        content = _content(path, self._read)
        if not content.endswith(b"\n"):
            raise PolicyRefused(f"{path}: the last line has no newline")
        rules = []
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                rule = parse_line(line)
            except PolicyRefused as error:
                raise PolicyRefused(f"{path}, line {number}: {error.reason}", number=error.number) from None
            if rule is not None:
                rules.append(rule)
        return rules


def _content(path: Path, told: PathRead) -> bytes:
    """A file's content, once ``told`` was told of it, unless that is long in coming.

    Whoever writes the policy file may serve a file system, this very one even: a path on it would wait for its reader.
    """
    answers: SimpleQueue[bytes | PolicyRefused] = SimpleQueue()

    def read() -> None:
        try:
            content = _read_content(path)
            told(path, content)
            answers.put(content)
        except PolicyRefused as error:
            answers.put(error)

    threading.Thread(target=read, name="imarium-policy", daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE)
    except Empty:
        raise PolicyRefused(f"{path}: not read within {_PATIENCE:g} seconds", number=errno.ETIMEDOUT) from None
    if isinstance(answer, PolicyRefused):
        raise answer
    return answer


def _read_content(path: Path) -> bytes:
    """A regular file's content. Nothing else is opened, so that no fifo and no device can keep the caller."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyRefused(f"{path}: {error.strerror}", number=error.errno or errno.EIO) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PolicyRefused(f"{path}: not a file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_POLICY_FILE + 1)
    except OSError as error:
        raise PolicyRefused(f"{path}: {error.strerror}", number=error.errno or errno.EIO) from None
    finally:
        os.close(descriptor)
    if not content:
        raise PolicyRefused(f"{path}: empty")
    if len(content) > MAX_POLICY_FILE:
        raise PolicyRefused(f"{path}: larger than {MAX_POLICY_FILE} bytes", number=errno.EFBIG)
    return content
