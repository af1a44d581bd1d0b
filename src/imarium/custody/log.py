"""One log: the kept records of one life of the registers, from reset to reset.

A log is a directory of ``list`` (the kernel's binary SHA-1 list, appended to), ``journal`` and ``meta.json``, and an
``index`` made from them. What lies in ``list`` behind the size the journal names last was never checked and is not
shown.
"""

import copy
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypedDict, Unpack

from imarium import durable
from imarium.chain import ChainState, replay
from imarium.custody.entry import GROWING, Entry, Event
from imarium.custody.index import INDEX_FILE, read_index
from imarium.custody.journal import SUM_SIZE, Journal, now
from imarium.custody.life import Machine
from imarium.custody.marks import Mark, agree
from imarium.custody.meta import LogMeta, read_meta
from imarium.custody.ownership import check_owner
from imarium.custody.packed import PACKED_FILE, PackedList
from imarium.errors import MalformedInput, MalformedRecord, MissingComponent, RefusedOperation, UsageError
from imarium.formats.records import Frame, ListLayout, Record, RecordFramer, frame_size, read_records
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["JOURNAL_FILE", "LIST_FILE", "META_FILE", "Log"]

LIST_FILE, JOURNAL_FILE, META_FILE = "list", "journal", "meta.json"
_LONG_JOURNAL = 1 << 20
"""Size in bytes above which older lines of a journal are replaced by a snapshot."""
_TELLING = GROWING.difference({Event.CUT})
"""Events that tell how a log stands; a run that died leaves whole records that the kernel still has."""
_JUDGING = frozenset(Event).difference({Event.COUNTED, Event.MACHINE, Event.REMOVED})
"""Events after which what was refused no longer stands."""
_FILES = (LIST_FILE, PACKED_FILE, JOURNAL_FILE, META_FILE, INDEX_FILE)
_LOOK = 1 << 15
"""How many bytes are read in one go where a record is looked for."""
_TAIL = 1 << 12
"""How many of the last bytes the journal notes a sum of."""


class _Members(TypedDict, total=False):
    """Members that a line may have; ``machine`` and ``missing`` are of one event each."""

    machine: Machine
    missing: int | None
    next_base: int | None
    state: ChainState | None
    registers: tuple[PcrIndex, ...]
    detail: str


class Log:
    """A log of the store. Opening raises MalformedInput or MissingComponent.

    Reading needs no lock: the list is only appended to. Writing is for the holder of the store's exclusive lock, who
    calls :meth:`recover` first. ``meta`` and ``journal`` are taken in place of what is in the files, to look at only.
    """

    def __init__(self, directory: Path, *, meta: LogMeta | None = None, journal: Journal | None = None) -> None:
        for place in (directory, *(directory / name for name in _FILES if os.path.lexists(directory / name))):
            check_owner(place)
        self.directory = directory
        self.number = int(directory.name)
        self.meta = meta or read_meta(directory / META_FILE)
        self.layout = ListLayout(SHA1, self.meta.byte_order)
        self.journal = journal or Journal(directory / JOURNAL_FILE)
        self.list_path = directory / LIST_FILE
        self._open: durable.OpenFile | None = None
        self.index_path = directory / INDEX_FILE
        self.clock: int | None = None
        """The TPM's clock, which each line of the journal notes from now on."""
        packed = directory / PACKED_FILE
        self._packed = PackedList(packed) if packed.exists() and not self.list_path.exists() else None
        self._settle()

    def _settle(self) -> None:
        """Take the size from the journal. Raises MissingComponent if the list has less."""
        kept = self._checkpoint(lambda _entry: True)
        self.records = kept.records if kept else 0
        self.bytes = kept.bytes if kept else 0
        have = self._packed.size if self._packed else durable.size_of(self.list_path)
        if have < self.bytes:
            raise MissingComponent(f"{self.stored_path}: has {have} bytes, but {self.bytes} were kept; restore it")

    def refreshed(self) -> "Log":
        """The log as it is now, for who only reads: this object if nothing was kept since, else another one.

        Raises as opening does.
        """
        if not self.journal.follow():
            replaced = Log(self.directory)
            if self._open is not None:
                replaced.keep_open()
            return replaced
        later = copy.copy(self)  # they share the journal, which others may have followed
        later._settle()
        return self if (later.records, later.bytes) == (self.records, self.bytes) else later

    def keep_open(self) -> None:
        """Keep the list and the journal open, for who reads often: IMA measures what is opened and has changed."""
        if self._packed is None:
            self._open = self._open or durable.OpenFile(self.list_path)
        self.journal.keep_open()

    @property
    def stored_path(self) -> Path:
        """The file that the list is in; compressed, once the log is closed."""
        return self._packed.path if self._packed else self.list_path

    @property
    def growth(self) -> tuple[Entry, ...]:
        """The journal's entries that name a size of the list, oldest first."""
        return tuple(entry for entry in self.journal.entries if entry.event in GROWING)

    @property
    def unjournaled(self) -> int:
        """How many bytes the list has behind what the journal names: written by a run that died, or is under way."""
        return (self._packed.size if self._packed else durable.size_of(self.list_path)) - self.bytes

    @property
    def boot_id(self) -> str:
        """The boot id of the kernel whose records were kept last."""
        return self.journal.last.boot_id if self.journal.last else self.meta.boot_id

    @property
    def base(self) -> int:
        """The byte of the log at which the kernel's oldest record stood when the journal was last written."""
        return self.journal.last.base if self.journal.last else 0

    @property
    def expected_overlaps(self) -> tuple[int, ...]:
        """How many of the last bytes of the log the kernel can still have, if no one else deletes.

        There are two if the journal ends before a deletion, which may or may not have been made.
        """
        last = self.journal.last
        later = () if last is None or last.next_base is None else (self.bytes - last.next_base,)
        return (self.bytes - self.base, *later)

    @property
    def machine_noted(self) -> Machine | None:
        """The machine that the journal noted last; None in logs of versions that noted none."""
        return next((entry.machine for entry in reversed(self.journal.entries) if entry.machine is not None), None)

    @property
    def machine(self) -> tuple[Machine, str]:
        """The machine whose records were kept last, as far as is known, and the TPM's clock; and when that was."""
        last = self.journal.last
        noted, at = self.machine_noted or Machine(self.boot_id), last.at if last else self.meta.created
        clock = next((entry.clock for entry in reversed(self.journal.entries) if entry.clock is not None), noted.clock)
        return replace(noted, boot_id=self.boot_id, clock=clock), at

    @property
    def broken(self) -> bool:
        """Whether records are known to be missing behind the log's end, or may be as the journal was rebuilt."""
        last = self._latest(_TELLING | {Event.GAP})
        return last is not None and last.event in {Event.GAP, Event.REBUILT} and self.records > 0

    @property
    def rebuilt(self) -> bool:
        """Whether the journal was rebuilt, and nothing was kept since: then its boot id may be an earlier kernel's."""
        last = self._latest(_TELLING)
        return last is not None and last.event is Event.REBUILT

    @property
    def refusal(self) -> Entry | None:
        """The line that says why nothing is deleted from the kernel; None if the last run did not refuse to."""
        last = self._latest(_JUDGING)
        return last if last is not None and last.event is Event.REFUSED else None

    @property
    def noted_state(self) -> ChainState | None:
        """The newest state in the journal: what was replayed when those records were kept."""
        noted = self._noted()
        return noted.state if noted else None

    @property
    def proved_by(self) -> tuple[PcrIndex, ...]:
        """The registers that proved the log when they were last read; none if no register ever did."""
        proved = self._checkpoint(lambda entry: bool(entry.registers))
        return proved.registers if proved else ()

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The kept bytes from ``start`` to ``end`` (default: all that is kept). Raises MissingComponent."""
        return self._stored(start, self.bytes if end is None else min(end, self.bytes))

    def records_from(self, first: int = 0, count: int | None = None) -> Iterator[Record]:
        """The kept records from number ``first`` on. Raises UsageError, MalformedRecord, MissingComponent."""
        if count is not None and count < 0:
            raise UsageError("give a count that is not negative")
        offset = self.offset_of(first)
        return islice(read_records(self.blocks(offset), self.layout, first=first, offset=offset), count)

    def offset_of(self, number: int) -> int:
        """The byte at which record ``number`` begins, or the list ends. Raises as :meth:`records_from`."""
        if not 0 <= number <= self.records:
            raise UsageError(f"log {self.number:04} has {self.records} records; there is no record {number}")
        mark = self.mark_before(number)
        framer = RecordFramer(self.layout, first=mark.records, offset=mark.offset)
        at, frames = mark.offset, list[Frame]()
        while framer.number < number:
            framer.check()
            if at >= self.bytes:
                framer.finish()
                return self.bytes
            frames = [frame for block in self.blocks(at, at + _LOOK) for frame in framer.feed(block)]
            at += _LOOK
        behind = framer.number - number
        return framer.offset - sum(map(frame_size, frames[len(frames) - behind :]))

    def state_at(self, number: int, banks: Iterable[HashAlgorithm] = (SHA1, SHA256)) -> ChainState:
        """The registers after ``number`` records, by replay. Raises RefusedOperation if the start is unknown."""
        if self.meta.start == "unknown":
            raise RefusedOperation(f"log {self.number:04} has no known start, so its registers cannot be replayed")
        end = self.offset_of(number)
        wanted = tuple(dict.fromkeys(banks))
        mark = self.mark_before(number, wanted)
        rest = self.blocks(mark.offset, end)
        return replay(rest, self.layout, wanted, padded=self._padded(wanted), start=mark.state).state

    def mark_before(self, number: int, banks: Collection[HashAlgorithm] = ()) -> Mark:
        """The last place up to record ``number`` that is known, with registers in ``banks``, without reading the list.

        Raises MissingComponent.
        """
        places = [Mark()]
        entry = self._checkpoint(lambda entry: entry.records <= number and (not banks or _has(entry.state, banks)))
        if entry is not None:
            places.append(Mark(entry.records, entry.bytes, entry.state))
        try:
            index = read_index(self.index_path, self.meta.identity)
        except MalformedInput:
            index = None  # that costs time alone, and a check reports it
        found = index.before(number, self.bytes) if index else None
        if found is not None and (not banks or _has(found.state, banks)):
            places.append(found)
        return max(places, key=lambda place: place.records)

    def end_state(self, banks: Iterable[HashAlgorithm] = (SHA1, SHA256)) -> ChainState | None:
        """The registers after all records, replayed from the stored bytes; None if the start is unknown.

        Raises MalformedInput if the bytes do not lead to what the journal noted when they were kept.
        """
        if self.meta.start == "unknown":
            return None
        wanted = tuple(dict.fromkeys(banks))
        padded = self._padded(wanted)
        noted = self._noted()
        state, position = ChainState(), 0
        if noted and noted.state:
            state = replay(self.blocks(0, noted.bytes), self.layout, wanted, padded=padded).state
            position = noted.bytes
            if not agree(state, noted.state):
                raise self._changed(position)
        return replay(self.blocks(position), self.layout, wanted, padded=padded, start=state).state

    def resumed_state(self, banks: Iterable[HashAlgorithm] = (SHA1, SHA256)) -> ChainState | None:
        """As :meth:`end_state`, but taken up where the journal last noted a state: only the bytes before are compared.

        All is replayed where no state was noted in these banks. Raises MalformedInput if those bytes were changed.
        """
        wanted = tuple(dict.fromkeys(banks))
        noted = self._noted()
        if noted is None or noted.state is None or not noted.tail or set(wanted) - set(noted.state.banks):
            return self.end_state(wanted)
        if self._tail_sum(noted.bytes) != noted.tail:
            raise self._changed(noted.bytes)
        rest = self.blocks(noted.bytes)
        return replay(rest, self.layout, wanted, padded=self._padded(wanted), start=noted.state).state

    def _noted(self) -> Entry | None:
        return self._checkpoint(lambda entry: entry.state is not None)

    def _tail_sum(self, end: int) -> str:
        """The SHA-256 of the last bytes before ``end``, cut to the size of the journal's own sums."""
        data = b"".join(self.blocks(max(0, end - _TAIL), end))
        return SHA256.digest(data).hex()[:SUM_SIZE]

    def _changed(self, offset: int) -> MalformedInput:
        return MalformedInput(
            f"log {self.number:04}",
            offset=offset,
            expected="the records that the journal noted",
            found="others; the list was changed, so restore it",
        )

    def recover(self) -> int:
        """Cut what a run that died left behind its last whole, good record; the number of bytes cut."""
        durable.sweep(self.directory)
        self.journal.repair()
        have = durable.size_of(self.list_path)
        if have == self.bytes:
            return 0
        durable.sync_file(self.list_path)  # so that what is read next is what the disk has
        before, base = self.bytes, self.base
        for size in self._good_records(have):
            self.bytes += size
            self.records += 1
        durable.truncate(self.list_path, self.bytes)
        detail = f"{self.bytes - before} bytes of whole records stay, {have - self.bytes} were cut"
        self.note(Event.CUT, self.boot_id, base=base, detail=detail)
        return have - self.bytes

    def _good_records(self, have: int) -> list[int]:
        """Sizes of the whole, good records behind what is kept."""
        sizes: list[int] = []
        tail = self._stored(self.bytes, have)
        records = read_records(tail, self.layout, first=self.records, offset=self.bytes)
        try:
            for record in records:
                if not record.digest_is_good:
                    break
                sizes.append(record.size)
        except MalformedRecord:
            pass
        return sizes

    def append(self, blocks: Iterable[bytes], size: int, *, halfway: Callable[[], None]) -> None:
        """Write ``size`` bytes behind what is kept; ``halfway`` is called in the middle. Not synced, not counted."""
        if self._open is None:
            self._open = durable.OpenFile(self.list_path)
        self._open.append_blocks(blocks, size=size, halfway=halfway)

    def sync(self) -> None:
        """Bring what was appended to stable storage. Raises MissingComponent, also if the file was replaced."""
        if self._open is None:
            return
        self._open.sync()
        if not self._open.is_in_place:
            raise MissingComponent(f"{self.list_path}: was replaced while it was written to; see to it, then run again")

    def appended(self, size: int) -> Iterator[bytes]:
        """The ``size`` bytes behind what is kept, as they are stored. Raises MissingComponent."""
        return self._stored(self.bytes, self.bytes + size)

    def is_as_left(self) -> bool:
        """Whether no one else has written since this was opened or written to last: it need not be read again."""
        if self._open is not None and not self._open.is_in_place:
            return False
        return self.journal.is_as_left() and durable.size_of(self.list_path) == self.bytes

    def close(self) -> None:
        """Close what was opened to append. The log can be used further, and opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _stored(self, start: int, end: int) -> Iterator[bytes]:
        if self._packed is not None:
            return self._packed.blocks(start, end)
        if self._open is not None:
            return self._open.read_blocks(start, end)
        return durable.read_blocks(self.list_path, start, end)

    def note(self, event: Event, boot_id: str, *, base: int, **members: Unpack[_Members]) -> None:
        """Write a line of the journal, durably."""
        self.journal.append(self.line(event, boot_id, base=base, **members))

    def line(self, event: Event, boot_id: str, *, base: int, **members: Unpack[_Members]) -> Entry:
        """A line of the journal, as of now."""
        tail = "" if members.get("state") is None else self._tail_sum(self.bytes)
        sizes = self.records, self.bytes, base
        return Entry(event, now(), boot_id, *sizes, tail=tail, clock=self.clock, **members)

    def tidy(self) -> None:
        """Keep the journal from growing without end. Raises MissingComponent; the journal is good then, too."""
        self.journal.compact(_LONG_JOURNAL)

    def grow(self, records: int, size: int) -> None:
        """Count records that are in the list, synced and checked; the caller notes it in the journal next."""
        self.records += records
        self.bytes += size

    def _padded(self, wanted: Iterable[HashAlgorithm]) -> frozenset[HashAlgorithm]:
        return self.meta.padded.intersection(wanted)

    def _latest(self, events: Collection[Event]) -> Entry | None:
        """The newest entry of one of these events."""
        return next((entry for entry in reversed(self.journal.entries) if entry.event in events), None)

    def _checkpoint(self, accept: Callable[[Entry], bool]) -> Entry | None:
        """The newest entry that names a size of the list and is accepted."""
        return next((e for e in reversed(self.journal.entries) if e.event in GROWING and accept(e)), None)


def _has(state: ChainState | None, banks: Collection[HashAlgorithm]) -> bool:
    return state is not None and not set(banks) - set(state.banks)
