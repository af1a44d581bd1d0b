"""The journal of a log: what custody did and was about to do, one JSON object a line, appended to and synced.

Each line has a checksum over itself and the line before, so that damage and missing lines are seen. A damaged last
line is what a crash leaves: it is left out, and cut before the next line is written. Damage elsewhere is an error, and
so is a line that is whole and makes no sense, wherever it stands: another version wrote it, and nothing of it is cut.
The format is described in ``docs/store.md``.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from imarium import durable
from imarium.chain import ChainState
from imarium.errors import MalformedInput
from imarium.formats.registers import LIST_PCRS, PcrIndex

__all__ = ["MAX_JOURNAL", "SUM_SIZE", "Entry", "Event", "Journal", "now"]

SUM_SIZE = 32
"""Of sums in the journal: hexadecimal digits of a SHA-256, from the first."""

_MAX_LINE = 1 << 20
MAX_JOURNAL = 1 << 28
"""Largest journal that is read, in bytes."""


class Event(StrEnum):
    """What a line of the journal says."""

    INTENT = "intent"
    """Records are about to be staged, or were found staged; they begin at ``base``."""
    KEPT = "kept"
    """Staged records are on stable storage and checked; they may be deleted from the kernel."""
    DELETED = "deleted"
    """The kernel has deleted everything before ``bytes``."""
    FOLLOWED = "followed"
    """The kernel's records were kept without deleting any; its list begins at ``base``."""
    CUT = "cut"
    """A run died: its whole, good records stay and the rest was cut."""
    GAP = "gap"
    """Records are missing before this log."""
    CARRIED = "carried"
    """A kexec is under way: what the kernel still has, from ``base`` on, goes on to the next kernel."""
    REMOVED = "removed"
    """An older log was deleted, as was asked for."""
    REFUSED = "refused"
    """Nothing was deleted, and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``records`` and ``bytes`` are the log's size after it; ``state`` is the replay up to there.

    ``base`` is the byte of the log at which the kernel's oldest record stands; ``next_base``, in ``kept`` only, where
    it will stand once the staged records are deleted. ``boot_id`` is the kernel's. ``registers`` are those that proved
    the log, in ``kept`` and ``followed``; ``tail`` is a sum of the last bytes before ``bytes``, where there is a state.
    """

    event: Event
    at: str
    boot_id: str
    records: int
    bytes: int
    base: int
    state: ChainState | None = None
    detail: str = ""
    next_base: int | None = None
    registers: tuple[PcrIndex, ...] = ()
    tail: str = ""

    def to_document(self) -> dict[str, object]:
        """The entry as a JSON document."""
        document: dict[str, object] = {
            "event": self.event.value,
            "at": self.at,
            "boot_id": self.boot_id,
            "records": self.records,
            "bytes": self.bytes,
            "base": self.base,
        }
        if self.next_base is not None:
            document["next_base"] = self.next_base
        if self.tail:
            document["tail"] = self.tail
        if self.registers:
            document["registers"] = list(self.registers)
        if self.state is not None:
            document["state"] = self.state.to_document()
        if self.detail:
            document["detail"] = self.detail
        return document


def now() -> str:
    """The time of day, UTC, as the journal has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """A journal file and its entries. ``torn`` is how many bytes of a damaged last line the file ends with.

    Opening raises MalformedInput for a damaged line that is not the last and for a whole one of another version,
    MissingComponent if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._sum = ""
        self._size = 0
        with durable.storage_errors(path), path.open("rb") as file:
            status = os.fstat(file.fileno())
            self._inode, size = status.st_ino, status.st_size
            if size > MAX_JOURNAL:
                raise MalformedInput(str(path), offset=0, expected=f"at most {MAX_JOURNAL} bytes", found=str(size))
            while self._size < size and self._take(file.readline(_MAX_LINE + 1), size):
                pass
        self.torn = max(0, size - self._size)

    def follow(self) -> bool:
        """Take up what another process has written since; whether the file is still the one that was read.

        Raises as opening does.
        """
        with durable.storage_errors(self.path):
            status = self.path.stat()
        if (status.st_ino, status.st_size) == (self._inode, self._size):
            return True
        with durable.storage_errors(self.path), self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if status.st_ino != self._inode or size < self._size or size > MAX_JOURNAL:
                return False
            file.seek(self._size)
            while self._size < size and self._take(file.readline(_MAX_LINE + 1), size):
                pass
        self.torn = max(0, size - self._size)
        return True

    def _take(self, line: bytes, size: int) -> bool:
        """Read the next line of a journal of ``size`` bytes; False for what a crash can have left at its end."""
        try:
            document, checksum = _parse(line, self._sum)
        except _BadLine as error:
            if self._size + len(line) < size:
                raise self._malformed(error) from error
            return False
        try:
            self.entries.append(_entry(document))
        except _BadLine as error:
            raise self._malformed(error) from error
        self._sum = checksum
        self._size += len(line)
        return True

    def _malformed(self, error: "_BadLine") -> MalformedInput:
        expected, found = "a journal line as custody wrote it", f"line {len(self.entries) + 1}: {error}"
        return MalformedInput(str(self.path), offset=self._size, expected=expected, found=found)

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
        """Write one entry to stable storage. The journal must be repaired."""
        document = entry.to_document()
        checksum = _checksum(self._sum, document)
        line = json.dumps({**document, "sum": checksum}, separators=(",", ":")).encode() + b"\n"
        durable.append(self.path, line)
        durable.sync_file(self.path)
        self.entries.append(entry)
        self._sum = checksum
        self._size += len(line)


def _checksum(previous: str, document: Mapping[str, object]) -> str:
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()[:SUM_SIZE]


class _BadLine(ValueError):
    """What is wrong with a line. Stays in this module."""


def _parse(line: bytes, previous: str) -> tuple[dict[str, object], str]:
    """The members and the checksum of a line that is as it was written. Says nothing about what they mean."""
    if not line.endswith(b"\n") or len(line) > _MAX_LINE:
        raise _BadLine("it does not end")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise _BadLine("it is not JSON") from None
    checksum = document.pop("sum", None) if isinstance(document, dict) else None
    if not isinstance(checksum, str):
        raise _BadLine("it has no checksum")
    if checksum != _checksum(previous, document):
        raise _BadLine("its checksum does not fit")
    return document, checksum


def _entry(document: Mapping[str, object]) -> Entry:
    texts = [document.get(name, "") for name in ("event", "at", "boot_id", "detail", "tail")]
    names = ["records", "bytes", "base", *(["next_base"] if "next_base" in document else [])]
    sizes = [document.get(name) for name in names]
    if not all(isinstance(text, str) for text in texts) or texts[0] not in set(Event):
        raise _BadLine("it is of another version; use the imarium that wrote it, or a newer one")
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes):
        raise _BadLine("its sizes are not numbers")
    event, at, boot_id, detail, tail = (str(text) for text in texts)
    records, size, base, *later = (size for size in sizes if isinstance(size, int))
    if max([base, *later]) > size:
        raise _BadLine("the kernel's oldest record stands behind the log's end")
    try:
        state = ChainState.from_document(document["state"]) if "state" in document else None
    except MalformedInput as error:
        raise _BadLine(str(error)) from error
    next_base = later[0] if later else None
    return Entry(Event(event), at, boot_id, records, size, base, state, detail, next_base, _registers(document), tail)


def _registers(document: Mapping[str, object]) -> tuple[PcrIndex, ...]:
    numbers = document.get("registers", [])
    if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < LIST_PCRS for number in numbers):
        raise _BadLine("its registers are not numbers that a list can have")
    return tuple(map(PcrIndex, numbers))
