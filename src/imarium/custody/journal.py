"""The journal of a log: what custody did and was about to do, one JSON object a line, appended to and synced.

Each line has a checksum over itself and the line before, so that damage and missing lines are seen. A damaged last
line is what a crash leaves: it is left out, and cut before the next line is written. Damage elsewhere is an error, and
so is a line that is whole and makes no sense, wherever it stands: another version wrote it, and nothing of it is cut.
When it has grown long, older lines are replaced by one that says what of them is still needed. The format is described
in ``docs/store.md``.
"""

import hashlib
import io
import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from imarium import durable
from imarium.custody.compaction import compacted
from imarium.custody.entry import BadEntry, Damaged, Entry, Event, entry_of
from imarium.errors import MalformedInput, MissingComponent

__all__ = ["MAX_JOURNAL", "SUM_SIZE", "Entry", "Event", "Journal", "UnwrittenJournal", "now"]

SUM_SIZE = 32
"""Of sums in the journal: hexadecimal digits of a SHA-256, from the first."""

_MAX_LINE = 1 << 20
MAX_JOURNAL = 1 << 28
"""Largest journal that is read, in bytes."""


def now() -> str:
    """The time of day, UTC, as the journal has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """A journal file and its entries. ``torn`` is how many bytes of a damaged last line the file ends with.

    Opening raises Damaged for a damaged line that is not the last, MalformedInput for a whole one of another version,
    MissingComponent if it cannot be read. With ``salvage``, reading ends before the first damaged line wherever it is.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path = path
        self._salvage = salvage
        self.entries: list[Entry] = []
        self._sum = ""
        self._size = 0
        self._file: durable.OpenFile | None = None
        self._following = threading.Lock()
        with durable.storage_errors(path), path.open("rb") as file:
            status = os.fstat(file.fileno())
            self._inode, size = status.st_ino, status.st_size
            if size > MAX_JOURNAL:
                raise MalformedInput(str(path), offset=0, expected=f"at most {MAX_JOURNAL} bytes", found=str(size))
            while self._size < size and self._take(file.readline(_MAX_LINE + 1), size):
                pass
        self.torn = max(0, size - self._size)

    def keep_open(self) -> None:
        """Keep the file open, so that following it opens nothing: IMA would measure it anew each time."""
        self._file = self._file or durable.OpenFile(self.path)

    def follow(self) -> bool:
        """Take up what another process has written since; whether the file is still the one that was read.

        For any thread. Raises as opening does.
        """
        with self._following:
            with durable.storage_errors(self.path):
                status = self.path.stat()
            size = status.st_size
            if status.st_ino != self._inode or not self._size <= size <= MAX_JOURNAL:
                return False
            if size > self._size:
                file = self._file or durable.OpenFile(self.path)
                lines = io.BytesIO(b"".join(file.read_blocks(self._size, size)))
                while self._size < size and self._take(lines.readline(_MAX_LINE + 1), size):
                    pass
                self.torn = max(0, size - self._size)
            return True

    def _take(self, line: bytes, size: int) -> bool:
        """Read the next line of a journal of ``size`` bytes; False for what a crash can have left at its end."""
        try:
            document, checksum = _parse(line, self._sum)
        except BadEntry as error:
            if self._size + len(line) < size and not self._salvage:
                raise self._malformed(error, Damaged) from error
            return False
        try:
            self.entries.append(entry_of(document))
        except BadEntry as error:
            raise self._malformed(error) from error
        self._sum = checksum
        self._size += len(line)
        return True

    def _malformed(self, error: BadEntry, kind: type[MalformedInput] = MalformedInput) -> MalformedInput:
        expected, found = "a journal line as custody wrote it", f"line {len(self.entries) + 1}: {error}"
        return kind(str(self.path), offset=self._size, expected=expected, found=found)

    @property
    def last(self) -> Entry | None:
        """The newest entry."""
        return self.entries[-1] if self.entries else None

    def repair(self) -> None:
        """Cut a damaged last line, durably."""
        if self.torn:
            durable.truncate(self.path, self._size)
            self.torn = 0

    def is_as_left(self) -> bool:
        """Whether the file is the one that was read, and has what was read from it and written to it."""
        with durable.storage_errors(self.path):
            found = self.path.stat()
        return not self.torn and (found.st_ino, found.st_size) == (self._inode, self._size)

    def append(self, entry: Entry) -> None:
        """Write one entry to stable storage. The journal must be repaired.

        A line that cannot be synced is taken back: the system may show it as written, and not have it.
        """
        line, checksum = _line(entry, self._sum)
        try:
            durable.append(self.path, line)
            durable.sync_file(self.path)
        except MissingComponent:
            with suppress(MissingComponent):  # then the next run finds the line torn, or whole
                durable.truncate(self.path, self._size)
            raise
        self.entries.append(entry)
        self._sum = checksum
        self._size += len(line)

    def compact(self, limit: int) -> bool:
        """Replace older lines by a snapshot, durably, if the file is larger than ``limit`` bytes; whether it was done.

        A crash leaves the journal as it was, or as it is then. Raises MissingComponent.
        """
        entries = compacted(self.entries) if self._size > limit else None
        if entries is None:
            return False
        data, checksum = _lines(entries)
        if len(data) > self._size // 2:
            return False  # not worth it yet
        durable.replace_file(self.path, data)
        with durable.storage_errors(self.path):
            self._inode = self.path.stat().st_ino
        self.entries[:] = entries
        self._sum, self._size = checksum, len(data)
        return True


class UnwrittenJournal(Journal):
    """A journal of these entries, in memory: what is to stand in place of one that is damaged. It is not followed."""

    def __init__(self, path: Path, entries: Iterable[Entry]) -> None:
        self.path = path
        self.entries = list(entries)
        self.torn = 0

    def write(self) -> None:
        """Put it in place, durably: a crash leaves what was there, or this. Raises MissingComponent."""
        durable.replace_file(self.path, _lines(self.entries)[0])


def _lines(entries: Iterable[Entry]) -> tuple[bytes, str]:
    """A journal of these entries, and the sum of its last line."""
    lines, checksum = [], ""
    for entry in entries:
        line, checksum = _line(entry, checksum)
        lines.append(line)
    return b"".join(lines), checksum


def _line(entry: Entry, previous: str) -> tuple[bytes, str]:
    """The line of an entry behind one with the sum ``previous``, and its own sum."""
    document = entry.to_document()
    checksum = _checksum(previous, document)
    return json.dumps({**document, "sum": checksum}, separators=(",", ":")).encode() + b"\n", checksum


def _checksum(previous: str, document: Mapping[str, object]) -> str:
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()[:SUM_SIZE]


def _parse(line: bytes, previous: str) -> tuple[dict[str, object], str]:
    """The members and the checksum of a line that is as it was written. Says nothing about what they mean."""
    if not line.endswith(b"\n") or len(line) > _MAX_LINE:
        raise BadEntry("it does not end")
    try:
        document = json.loads(line)
        checksum = document.pop("sum", None) if isinstance(document, dict) else None
        wanted = None if checksum is None else _checksum(previous, document)  # may be too deep to be written again
    except (ValueError, RecursionError):
        raise BadEntry("it is not JSON") from None
    if not isinstance(checksum, str):
        raise BadEntry("it has no checksum")
    if checksum != wanted:
        raise BadEntry("its checksum does not fit")
    return document, checksum
