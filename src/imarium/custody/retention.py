"""What becomes of closed logs: compressed, and deleted by age or size if that was asked for. Never the newest log.

Each step is durable, and a crash between any two leaves a log that reads as before: the compressed list is written
beside, synced, read back and compared before it takes its name, and only then the plain one goes. A log that is deleted
loses its name first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from imarium import durable
from imarium.custody.journal import Event
from imarium.custody.log import Log
from imarium.custody.packed import PACKED_FILE, PackedList, pack
from imarium.custody.store import Store, StoreBusy
from imarium.errors import ImariumError, MissingComponent
from imarium.locks import locked

__all__ = ["Retained", "Retention", "retain"]

_LOCK = "retaining"
"""Held by the process that compresses or deletes logs, so that one does at a time."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is asked for. ``older_than`` is counted from a log's last entry; ``larger_than`` is bytes of all logs."""

    compress: bool = True
    older_than: timedelta | None = None
    larger_than: int | None = None


@dataclass(frozen=True, slots=True)
class Retained:
    """What was done with a log: ``freed`` bytes of storage."""

    log: int
    action: Literal["compressed", "deleted"]
    freed: int
    reason: str

    def to_document(self) -> dict[str, object]:
        """As a JSON document."""
        return {"log": self.log, "action": self.action, "freed": self.freed, "reason": self.reason}


def retain(store: Store, wanted: Retention, *, now: datetime | None = None, dry: bool = False) -> Iterator[Retained]:
    """Do what is ``wanted``, log by log; only say it, if ``dry``. Deleted logs are noted in the newest one's journal.

    Takes the store's exclusive lock for moments alone, so that custody goes on while a list is compressed. Raises
    StoreBusy; what was done so far stays. A log that cannot be read, compressed or deleted stays, too, and hinders no
    other; what the first of them raised is raised at the end.
    """
    time, freed, failed = now or datetime.now(UTC), 0, list[ImariumError]()
    busy = StoreBusy(f"{store.path}: another process compresses or deletes logs; wait for it, or end it")
    with locked(store.path / _LOCK, busy=busy):
        for number in store.numbers[:-1]:
            try:
                done = _settle(store, number, wanted, time, freed, dry)
            except StoreBusy:
                raise
            except ImariumError as error:
                failed.append(error)
                continue
            if done is not None:
                freed += done.freed
                yield done
    if failed:
        raise failed[0]


def _settle(store: Store, number: int, wanted: Retention, now: datetime, freed: int, dry: bool) -> Retained | None:
    """Delete or compress one log if it is its turn. ``freed``: by the logs before it."""
    with store.lock():
        log = store.log(number)
        reason = _why_deleted(log, wanted, now, _excess(store, wanted, freed if dry else 0))
        if reason:
            return _delete(store, log, reason, dry)
    return _compress(store, log, dry) if wanted.compress and _is_whole(log) else None


def _is_whole(log: Log) -> bool:
    """Whether the log has a plain list, and nothing behind its end."""
    with durable.storage_errors(log.list_path):
        return log.list_path.exists() and durable.size_of(log.list_path) == log.bytes


def _why_deleted(log: Log, wanted: Retention, now: datetime, excess: int) -> str:
    """Why the log is to go; empty if it stays."""
    last = log.journal.last.at if log.journal.last else log.meta.created
    if wanted.older_than is not None and _is_before(last, now - wanted.older_than):
        return f"its last entry is of {last}, more than {wanted.older_than.days} days ago"
    if excess > 0:
        return f"the logs have {excess} bytes more than {wanted.larger_than}, and it is the oldest"
    return ""


def _excess(store: Store, wanted: Retention, freed: int) -> int:
    """By how many bytes the logs are larger than wanted, less those that would have been freed."""
    if wanted.larger_than is None:
        return 0
    return sum(_size(store.directory_of(number)) for number in store.numbers) - freed - wanted.larger_than


def _is_before(text: str, limit: datetime) -> bool:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return False  # a log whose age is not known stays
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) < limit


def _size(directory: Path) -> int:
    with durable.storage_errors(directory):
        return sum(path.stat().st_size for path in directory.iterdir())


def _delete(store: Store, log: Log, reason: str, dry: bool) -> Retained:
    done = Retained(log.number, "deleted", _size(log.directory), reason)
    if not dry:
        newest = store.log()
        newest.recover()  # a run that died may have left half a line where the next one goes
        detail = f"log {log.number:04}, {log.records} records: {reason}"
        newest.note(Event.REMOVED, newest.boot_id, base=newest.base, detail=detail)
        store.remove(log.number)
    return done


def _compress(store: Store, log: Log, dry: bool) -> Retained:
    """Compress a closed log's list, which no one writes to: the store is locked for the exchange of files alone."""
    before = durable.size_of(log.list_path)
    if dry:
        return Retained(log.number, "compressed", 0, "it is closed")
    hidden, final = log.directory / f".{PACKED_FILE}.new", log.directory / PACKED_FILE
    durable.remove_file(hidden)
    try:
        _pack(log, hidden)
        with store.lock():
            durable.publish_file(hidden, final)
            durable.remove_file(log.list_path)
    except ImariumError:
        durable.remove_file(hidden)  # what fills the disk must not stay there
        raise
    return Retained(log.number, "compressed", before - durable.size_of(final), "it is closed")


def _pack(log: Log, path: Path) -> None:
    """Write a log's list compressed, durably, and see that it gives the list back. Raises MissingComponent."""
    durable.append_blocks(path, pack(log.blocks()), size=0)
    durable.sync_file(path)
    packed = PackedList(path)
    if not _same(packed.blocks(0, packed.size), log.blocks()):
        raise MissingComponent(f"{path}: does not give back what was compressed; check the disk, then run again")


def _same(left: Iterable[bytes], right: Iterable[bytes]) -> bool:
    """Whether two runs of blocks are the same bytes."""
    rest, others = b"", iter(right)
    for block in left:
        wanted = len(block)
        while len(rest) < wanted and (more := next(others, None)) is not None:
            rest += more
        if rest[:wanted] != block:
            return False
        rest = rest[wanted:]
    return not rest and next(others, None) is None
