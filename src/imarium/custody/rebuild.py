"""Making a damaged or missing ``journal`` or ``meta.json`` again, from the list and the lines that are whole.

Nothing is written here. What is made claims no more than the list shows: its size, its registers by replay where its
start is known, and no register that proved it. The start is known only where the journal has noted a state.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from imarium import durable
from imarium.chain import ChainState, replay
from imarium.custody.entry import GROWING, Damaged, Entry, Event
from imarium.custody.indexing import index_banks
from imarium.custody.journal import Journal, UnwrittenJournal, now
from imarium.custody.listing import layout_of
from imarium.custody.log import JOURNAL_FILE, META_FILE, Log
from imarium.custody.meta import LogMeta, read_meta
from imarium.errors import MalformedInput
from imarium.formats.records import ListLayout, RecordFramer
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["Rebuild", "rebuild_of"]

_MAX_REASON = 400


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A log as it would be. ``meta`` and ``journal`` say what is wrong with the files to replace; empty: nothing."""

    log: Log
    meta: str
    journal: str

    def write_meta(self) -> None:
        """Put the new ``meta.json`` in place, durably. Raises MissingComponent."""
        durable.replace_file(self.log.directory / META_FILE, self.log.meta.to_bytes())

    def write_journal(self) -> None:
        """Put the new journal in place, durably. Raises MissingComponent."""
        UnwrittenJournal(self.log.journal.path, self.log.journal.entries).write()


def rebuild_of(directory: Path) -> Rebuild | None:
    """A log whose journal or ``meta.json`` is damaged or gone, made from the list; None if neither is.

    The list is read, and compared with the journal's whole lines; only a last record that is not whole may be in it.
    Raises MalformedInput, MissingComponent, RefusedOperation and UsageError where there is nothing to make it from.
    """
    meta, meta_damage = _meta(directory / META_FILE)
    journal, damage, lost = _journal(directory / JOURNAL_FILE)
    if not meta_damage and not damage:
        return None
    if meta is None:
        meta = _meta_from(directory, journal, meta_damage)
    log = Log(directory, meta=meta, journal=journal)
    if damage:
        line = _line(log, lost)
        log = Log(directory, meta=meta, journal=UnwrittenJournal(journal.path, [*journal.entries, line]))
    return Rebuild(log, meta_damage, damage)


def _meta(path: Path) -> tuple[LogMeta | None, str]:
    """What ``meta.json`` says, or what is wrong with it."""
    if not os.path.lexists(path):
        return None, f"{path}: is missing"
    try:
        return read_meta(path), ""
    except Damaged as error:
        return None, str(error)


def _journal(path: Path) -> tuple[Journal, str, str]:
    """The journal as far as it is whole, what is wrong with it, and what of it is lost."""
    if not os.path.lexists(path):
        return UnwrittenJournal(path, ()), f"{path}: is missing", "the journal was missing"
    try:
        return Journal(path), "", ""
    except Damaged as error:
        rest = Journal(path, salvage=True)
        lost = f"the journal was damaged: {rest.torn} bytes from line {len(rest.entries) + 1} on are lost"
        return UnwrittenJournal(path, rest.entries), str(error), lost


def _stored(log: Log) -> Iterator[bytes]:
    """All that is in the list, whatever the journal says."""
    return chain(log.blocks(), log.appended(log.unjournaled))


def _line(log: Log, lost: str) -> Entry:
    """The line that says what the list has. Raises MalformedInput for a list that is not what whole lines say."""
    framer = RecordFramer(log.layout)
    for block in _stored(log):
        framer.feed(block)
    framer.check()
    if framer.offset < log.bytes or framer.number < log.records:
        raise MalformedInput("list", offset=framer.offset, expected=f"{log.bytes} bytes of records", found="fewer")
    log.grow(framer.number - log.records, framer.offset - log.bytes)
    return log.line(Event.REBUILT, log.boot_id, base=log.base, state=log.end_state(index_banks(log)), detail=lost)


def _meta_from(directory: Path, journal: Journal, damage: str) -> LogMeta:
    """What the list and the journal's lines show of a log; ``start`` is unknown unless a state was noted."""
    first = journal.entries[0] if journal.entries else None
    began = first is not None and first.event is Event.MACHINE and not first.records
    noted = next((entry for entry in reversed(journal.entries) if entry.event in GROWING and entry.state), None)
    meta = LogMeta(
        sys.byteorder,
        first.at if first else now(),
        first.boot_id if first and began else "",
        "reset" if noted else "unknown",
        f"meta.json was rebuilt: {damage}"[:_MAX_REASON],
    )
    log = Log(directory, meta=meta, journal=journal)
    if next(_stored(log), b""):
        meta = replace(meta, byte_order=layout_of(lambda: _stored(log)).byte_order)
    return replace(meta, padded=_padded(log, ListLayout(SHA1, meta.byte_order), noted)) if noted else meta


def _padded(log: Log, layout: ListLayout, noted: Entry) -> frozenset[HashAlgorithm]:
    """The banks whose noted values replay does not reach with their own digests; a check tries padded ones."""
    state = noted.state or ChainState()
    banks = tuple(bank for bank in state.banks if bank.computable)
    plain = replay(log.blocks(0, noted.bytes), layout, banks).state
    return frozenset(
        bank
        for bank in banks
        if bank is not SHA1 and any(plain.value(pcr, bank) != values[bank] for pcr, values in state.values.items())
    )
