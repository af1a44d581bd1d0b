"""A register's event log: append events and extend the register as one step, across processes and crashes.

Everything is done under an exclusive lock of the log file. A step is: write the lines to the log and sync them;
extend the register, line by line; write the mark (see :mod:`imarium.registers.mark`). Thus there is room for the
lines before the first extend, which nothing can take back. Whoever finds lines behind the mark takes a step to its
end: it replays them from the mark's value to see how many were extended, and cuts away the others, which no one was
told had been logged. docs/registers.md has the protocol and its proof.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imarium import durable
from imarium.chain import extend as chain_extend
from imarium.errors import ImariumError, MalformedInput
from imarium.hashes import HashAlgorithm
from imarium.registers.description import Register
from imarium.registers.errors import ForeignExtend, LogBusy, RegisterReadOnly
from imarium.registers.mark import Mark, read_mark, write_mark
from imarium.registers.provider import Provider, check_extend
from imarium.registers.replay import Verification, last_value, verify
from imarium.registers.text import Kind, Line, event_lines, extend_line, is_comment, read_lines, sync_line

__all__ = ["Appended", "EventLog"]

_PAUSE = 0.002


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did: how many lines it logged and events it extended, whether a SYNC line is among them, and
    the register's value after it.
    """

    lines: int
    events: int
    synced: bool
    value: bytes


class EventLog:
    """The event log of one extensible register in ``directory``, as files ``KEY.log`` and ``KEY.mark``.

    ``patience`` is how long, in seconds, to wait for other processes before LogBusy. Methods raise MissingComponent
    when the files cannot be read or written, and what the provider raises. Raises RegisterReadOnly at once for a
    register that is not extensible.
    """

    def __init__(self, provider: Provider, register: Register, directory: Path, *, patience: float = 10.0) -> None:
        if register.hash is None or not register.extensible:
            raise RegisterReadOnly(f"{register.key} cannot be extended, so it has no event log")
        self.register = register
        self.path = directory / f"{register.key}.log"
        self._mark_path = directory / f"{register.key}.mark"
        self._hash: HashAlgorithm = register.hash
        self._provider = provider
        self._patience = patience

    def append(self, text: bytes) -> Appended:
        """Log the lines of ``text`` and extend the hash of each that is not a comment. No line, nothing done.

        A SYNC line goes first where the log is new or out of step. Raises TextTooLong and UsageError for the text,
        ForeignExtend if someone extends the register at the same time: the log is then out of step.
        """
        lines = list(event_lines(text))
        if not lines:
            return Appended(0, 0, synced=False, value=self._provider.read(self.register))
        with self._locked() as log:
            mark = self._settle(log)
            if not mark.in_step:
                lines.insert(0, sync_line(self._hash, mark.value))
            digests = [self._hash.digest(line) for line in lines if not is_comment(line)]
            value = self._step(log, mark, lines, digests, in_step=True)
        return Appended(len(lines), len(digests), not mark.in_step, value)

    def extend(self, digest: bytes) -> bytes:
        """Extend a digest without an event, and note it; the new value. The log is then out of step.

        Raises RegisterReadOnly where only events may be appended, UsageError for a digest of another size, and as
        :meth:`append`.
        """
        check_extend(self.register, digest)
        if not self.register.writable:
            raise RegisterReadOnly(f"{self.register.key} takes events only; append one instead")
        with self._locked() as log:
            return self._step(log, self._settle(log), [extend_line(digest)], [digest], in_step=False)

    def size(self) -> int:
        """How many bytes the log has, settled or not. 0 where there is no log yet."""
        return durable.size_of(self.path) if durable.is_there(self.path) else 0

    def settled_size(self) -> int:
        """How many bytes of the log are settled, after finishing what a crash left. 0 where there is no log yet."""
        if not durable.is_there(self.path):
            return 0
        with self._locked() as log:
            return self._settle(log).size

    def read(self, start: int = 0, size: int = -1) -> bytes:
        """Bytes of the log from ``start``, at most ``size`` (all if negative). Of settled bytes none ever changes."""
        if not durable.is_there(self.path):
            return b""
        with durable.storage_errors(self.path), self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def verify(self, value: bytes | None = None, *, start: int | None = None) -> Verification:
        """Replay the log against the register's value, or against ``value``; see :func:`replay.verify`.

        Nothing is written. What a crash left is seen as it is. A settled log may be appended to meanwhile: what there
        was does not change. Raises MalformedInput, MissingComponent.
        """
        if not durable.is_there(self.path):
            target = self._provider.read(self.register) if value is None else value
            return verify((), self._hash, target, start=start)
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as log:
            target = self._provider.read(self.register) if value is None else value
            end, mark = os.fstat(log).st_size, read_mark(self._mark_path)
            if mark is not None and mark.size == end:
                fcntl.flock(log, fcntl.LOCK_UN)
            return verify(self._lines(_blocks(log, end=end)), self._hash, target, start=start)

    def _step(self, log: int, mark: Mark, lines: list[bytes], digests: list[bytes], *, in_step: bool) -> bytes:
        """Log, sync, extend, mark. The log must be settled at ``mark``."""
        block = (b"\n" if mark.size else b"") + b"".join(line + b"\n" for line in lines)
        self._write(log, mark.size, block)
        value = mark.value
        try:
            for digest in digests:
                expected = chain_extend(self._hash, value, digest)
                value = self._provider.extend(self.register, digest)
                if value != expected:
                    raise ForeignExtend(
                        f"{self.register.key}: someone else extended it; its log is out of step, find out who did"
                    )
        except ImariumError:
            self._settle(log)
            raise
        write_mark(self._mark_path, Mark(mark.size + len(block), value, in_step))
        return value

    def _write(self, log: int, offset: int, block: bytes) -> None:
        """Put the block on stable storage, or leave the log as it was."""
        with durable.storage_errors(self.path):
            try:
                view = memoryview(block)
                while view:
                    written = os.pwrite(log, view, offset + len(block) - len(view))
                    view = view[written:]
                os.fdatasync(log)
            except OSError:
                os.ftruncate(log, offset)
                raise

    def _settle(self, log: int) -> Mark:
        """Finish a step that was broken off, and return the mark as it is now, with the register's value."""
        value = self._provider.read(self.register)
        size = os.fstat(log).st_size
        old = read_mark(self._mark_path)
        if old is None or old.size > size or len(old.value) != self.register.size:
            new = self._rebuilt(log, value)
        elif old.size < size:
            new = self._finished(log, old, value)
        else:
            new = Mark(size, value, old.in_step and old.value == value)
        if new.size < size:
            with durable.storage_errors(self.path):
                os.ftruncate(log, new.size)
                os.fsync(log)
        if new != old:
            write_mark(self._mark_path, new)
        return new

    def _lines(self, blocks: Iterable[bytes], *, offset: int = 0) -> Iterator[Line]:
        return read_lines(blocks, self._hash, offset=offset, what=str(self.path))

    def _rebuilt(self, log: int, value: bytes) -> Mark:
        """The mark from the log alone: nothing but a torn line is cut."""
        end, reached = last_value(self._lines(_blocks(log)), self._hash)
        return Mark(end, value, reached == value)

    def _finished(self, log: int, old: Mark, value: bytes) -> Mark:
        """Where a broken step ended: behind the last event that the register's value covers, if it covers any line.

        Where it covers none, someone else extended too: the whole lines stay, and the log is out of step.
        """
        lines: list[Line] = []
        with suppress(MalformedInput):  # a machine that died can leave anything where nothing was synced yet
            for line in self._lines(_blocks(log, old.size), offset=old.size):
                lines.append(line)
        end = lines[-1].end if lines else old.size
        written = [line for line in lines if line.kind is not Kind.BLANK]
        found = Mark(old.size, value, old.in_step) if old.value == value else None
        if [line.kind for line in written] == [Kind.EXTENDED]:  # a step of extend(); or a comment that looks like one
            return found or Mark(end, value, in_step=False)
        steps = [line for line in written if line.hashed]
        replayed = old.value
        for line in steps:
            replayed = chain_extend(self._hash, replayed, self._hash.digest(line.text))
            if replayed == value:
                found = Mark(end if line is steps[-1] else line.end, value, in_step=True)
        return found or Mark(end, value, in_step=False)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The log, open and ours alone; made where there is none."""
        durable.create_directory(self.path.parent)
        new = not durable.is_there(self.path)
        with self._opened(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as log:
            if new:
                durable.sync_directory(self.path.parent)
            yield log

    @contextmanager
    def _opened(self, flags: int, kind: int) -> Iterator[int]:
        with durable.storage_errors(self.path):
            log = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, durable.FILE_MODE)
        try:
            with durable.storage_errors(self.path):
                self._acquire(log, kind)
                yield log
        finally:
            os.close(log)

    def _acquire(self, log: int, kind: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(log, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LogBusy(f"{self.path}: in use by another process; wait for it, or end it") from None
                time.sleep(_PAUSE)
            else:
                return


def _blocks(log: int, offset: int = 0, end: int = sys.maxsize) -> Iterator[bytes]:
    while block := os.pread(log, min(durable.BLOCK, end - offset), offset):
        offset += len(block)
        yield block
