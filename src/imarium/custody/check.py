"""Checking a store: every byte of it is read, and all that is said about the list is made again from the list.

What is wrong is a finding, with the number of the record where it can be told. A damaged record does not hide those
behind it: the check goes on at the next place the index or the journal knows.
"""

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from imarium.chain import ChainState, replay
from imarium.custody.index import Index, read_index
from imarium.custody.indexing import index_banks
from imarium.custody.log import Log
from imarium.custody.marks import STRIDE, Mark, Marker, Stretch, agree
from imarium.custody.ownership import check_owner
from imarium.custody.rebuild import Rebuild, rebuild_of
from imarium.custody.store import Store, StoreBusy
from imarium.errors import ImariumError, MalformedInput, MalformedRecord
from imarium.hashes import SHA1

__all__ = ["Finding", "Part", "check_log", "check_store", "sound_rebuild"]

Part = Literal["store", "list", "journal", "meta", "index"]

_MOST_FINDINGS = 1000
"""How many findings about one log are reported."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. ``log`` is its number, None for the store itself.

    ``record`` is the first record that it may be about, and ``last`` the last; None where it is about none. ``mends``
    says that a repair makes it good from what is whole.
    """

    part: Part
    detail: str
    log: int | None = None
    record: int | None = None
    last: int | None = None
    mends: bool = False

    def to_document(self) -> dict[str, object]:
        """As a JSON document."""
        return {
            "part": self.part,
            "log": self.log,
            "record": self.record,
            "last": self.last,
            "detail": self.detail,
            "mends": self.mends,
        }


def check_store(store: Store) -> Iterator[Finding]:
    """What is wrong with the store itself, and with each log. Raises MissingComponent if it cannot be read."""
    yield from _modes(store.path, None)
    for number in store.numbers:
        yield from check_log(store, number)


def check_log(store: Store, number: int) -> Iterator[Finding]:
    """What is wrong with one log, as it is when this begins: custody can go on meanwhile. Raises StoreBusy."""
    yield from _modes(store.directory_of(number), number)
    try:
        with store.lock(shared=True):  # so that no run is between keeping and indexing
            check = _Check(store.log(number))
    except StoreBusy:
        raise
    except ImariumError as error:
        yield from _unopened(store, number, error)
        return
    yield from islice(check.findings(), _MOST_FINDINGS)


def sound_rebuild(store: Store, number: int) -> Rebuild | None:
    """A log as it can be rebuilt, if it needs to be and nothing is wrong with its list."""
    rebuild, findings = _rebuild(store, number)
    return rebuild if all(finding.mends for finding in findings) else None


def _rebuild(store: Store, number: int) -> tuple[Rebuild | None, list[Finding]]:
    """A log as it can be rebuilt, and what would be wrong with it then."""
    try:
        rebuild = rebuild_of(store.directory_of(number))
        if rebuild is None:
            return None, []
        check = _Check(rebuild.log, rebuilt=bool(rebuild.meta))
        return rebuild, list(islice(check.findings(), _MOST_FINDINGS))
    except ImariumError:
        return None, []


def _unopened(store: Store, number: int, error: ImariumError) -> Iterator[Finding]:
    """What is wrong with a log that cannot be opened."""
    rebuild, findings = _rebuild(store, number)
    if rebuild is None:
        yield Finding(_part_of(error, store.directory_of(number)), str(error), number)
        return
    mends = all(finding.mends for finding in findings)
    damaged: tuple[tuple[Part, str], ...] = ("meta", rebuild.meta), ("journal", rebuild.journal)
    yield from (Finding(part, detail, number, mends=mends) for part, detail in damaged if detail)
    yield from findings


class _Check:
    """The check of one log that could be opened; ``rebuilt`` says that its index names a ``meta.json`` that is lost."""

    def __init__(self, log: Log, *, rebuilt: bool = False) -> None:
        self._log = log
        self._rebuilt = rebuilt
        self._index: Index | None = None
        self._marks = 0
        self._at_index = tuple(self._open_index())
        self._known = log.meta.start == "reset"
        self._banks = index_banks(log)

    def findings(self) -> Iterator[Finding]:
        log = self._log
        if log.journal.torn:
            yield self._finding("journal", f"its last line is damaged: {log.journal.torn} bytes", mends=True)
        if log.unjournaled:
            detail = f"{log.unjournaled} bytes lie behind what the journal names"
            yield self._finding("list", detail, log.records, mends=True)
        yield from self._at_index
        broken = False
        for finding in self._list():
            broken = broken or finding.part == "list"
            yield finding
        if not broken:  # else the journal's states are not reached for the same reason
            yield from self._journal()

    def _open_index(self) -> Iterator[Finding]:
        """Open the index; what is wrong with it as a whole."""
        log = self._log
        try:
            index = read_index(log.index_path, None if self._rebuilt else log.meta.identity)
            marks, torn = (index.marks, index.torn) if index else (0, 0)
        except ImariumError as error:
            yield self._finding("index", str(error), mends=True)
            return
        if index and self._rebuilt:
            yield self._finding("index", "names the meta.json that was there", mends=True)
        wanted = log.records // STRIDE
        if marks != wanted:
            found = f"has {marks} marks" if index else "there is none, or it is another log's"
            yield self._finding("index", f"{found}, where {wanted} marks belong", mends=True)
        if torn:
            yield self._finding("index", f"its last slot is not whole: {torn} bytes", mends=True)
        self._index, self._marks = index, min(marks, wanted)

    def _list(self) -> Iterator[Finding]:
        """Every record, stretch by stretch; behind what is broken from the next known place on."""
        start: Mark | None = Mark(state=ChainState() if self._known else None)
        while start is not None and start.offset < self._log.bytes:
            marker = Marker(self._log.layout, self._banks, padded=self._log.meta.padded, start=start)
            try:
                for stretch in self._stretches(marker, start):
                    findings, following = self._stretch(stretch, start)
                    yield from findings
                    start = following
                    if following != stretch.mark:
                        break
            except MalformedRecord as error:
                first = min((error.record, *marker.doubtful))  # a damaged length is noticed behind it
                start = self._next_known(error.record, error.offset)
                yield self._broken(error, first, start)
            except ImariumError as error:
                yield self._finding("list", str(error), start.records, max(start.records, self._log.records - 1))
                return
        if start is not None and start.records != self._log.records:
            detail = f"has {start.records} records, and {self._log.records} were kept"
            yield self._finding("list", detail, min(start.records, self._log.records))

    def _stretches(self, marker: Marker, start: Mark) -> Iterator[Stretch]:
        for block in self._log.blocks(start.offset):
            yield from marker.feed(block)
        last = marker.finish()
        if last is not None:
            yield last

    def _stretch(self, stretch: Stretch, start: Mark) -> tuple[list[Finding], Mark]:
        """One stretch against its records and the index; and where to go on, by the index if the list is damaged."""
        mark = stretch.mark
        detail = "its template digest is not that of its data"
        findings = [self._finding("list", detail, record) for record in stretch.bad_digests]
        if self._index is None or mark.records % STRIDE or mark.records // STRIDE > self._marks:
            return findings, mark
        between = start.records, mark.records - 1
        try:
            known = self._index.mark(mark.records // STRIDE - 1)
        except ImariumError as error:
            return [*findings, self._finding("index", str(error), *between, mends=True)], mark
        if (known.offset, known.digest) == (mark.offset, mark.digest) and agree(known.state, mark.state):
            return findings, mark
        if not findings:
            findings.append(self._finding("list", "the bytes are not those that were indexed", *between))
        return findings, known

    def _journal(self) -> Iterator[Finding]:
        """The sizes and states that the journal noted, each made again from the one before."""
        log = self._log
        state, position = ChainState(), 0
        for entry in sorted(log.growth, key=lambda entry: entry.records):
            banks = entry.state.banks if entry.state and entry.state.banks else (SHA1,)
            banks = tuple(bank for bank in banks if bank.computable) or (SHA1,)
            if set(banks) - set(state.banks) and state.values:
                state, position = ChainState(), 0
            between = state.records, max(state.records, entry.records - 1)
            try:
                padded = log.meta.padded.intersection(banks)
                rest = log.blocks(position, entry.bytes)
                found = replay(rest, log.layout, banks, padded=padded, start=state).state
            except ImariumError as error:
                yield self._finding("journal", f"names byte {entry.bytes}: {error}", *between)
                return
            if found.records != entry.records:
                detail = f"has {entry.records} records at byte {entry.bytes}, where there are {found.records}"
                yield self._finding("journal", detail, *between)
                return
            if self._known and entry.state is not None and not agree(entry.state, found):
                detail = f"does not lead to the registers that were noted at {entry.at}"
                yield self._finding("list", detail, *between)
                found = entry.state
            state, position = found, entry.bytes

    def _next_known(self, record: int, offset: int) -> Mark | None:
        """The next place behind a broken record that the index or the journal knows."""
        entries = [entry for entry in self._log.growth if entry.records > record and entry.bytes > offset]
        places = [Mark(entry.records, entry.bytes, self._start(entry.state)) for entry in entries]
        for number in range(record // STRIDE, self._marks):
            with suppress(MalformedInput):
                places += [self._index.mark(number)] if self._index else []
                break
        return min(places, key=lambda place: place.records, default=None)

    def _start(self, state: ChainState | None) -> ChainState | None:
        """The state if a replay in all banks can begin there."""
        return state if state is not None and not set(self._banks) - set(state.banks) else None

    def _broken(self, error: MalformedRecord, first: int, resumed: Mark | None) -> Finding:
        last = (resumed.records if resumed else self._log.records) - 1
        detail = f"cannot be read: {error}"
        return self._finding("list", detail, first, max(last, error.record))

    def _finding(
        self, part: Part, detail: str, record: int | None = None, last: int | None = None, *, mends: bool = False
    ) -> Finding:
        return Finding(part, detail, self._log.number, record, record if last is None else last, mends)


def _modes(path: Path, number: int | None) -> Iterator[Finding]:
    """Who may look at or change a directory and its files."""
    try:
        check_owner(path)
        entries = [path, *sorted(path.iterdir())]
    except ImariumError as error:
        yield Finding("store", str(error), number)
        return
    except OSError as error:
        yield Finding("store", f"{path}: {error.strerror}", number)
        return
    for entry in entries:
        try:
            check_owner(entry)
        except ImariumError as error:
            yield Finding("store", str(error), number)
            continue
        mode = stat.S_IMODE(entry.lstat().st_mode)
        if mode & 0o077:
            yield Finding("store", f"{entry}: others may look at it (mode {mode:04o})", number, mends=True)


def _part_of(error: ImariumError, directory: Path) -> Part:
    """The part that an error names by its path."""
    text = str(error)
    return next((part for part in ("journal", "meta", "index") if f"{directory / part}" in text), "list")
