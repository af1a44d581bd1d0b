"""Writing a log's index: marks for the records that were kept since the last time.

The index follows the log and may lag behind it: nothing that is kept waits for it.
"""

from contextlib import suppress
from pathlib import Path

from imarium import durable
from imarium.chain import ChainState
from imarium.custody.index import Index, IndexHeader, read_index
from imarium.custody.log import Log
from imarium.custody.marks import STRIDE, Mark, Marker
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["follow_index", "index_banks", "write_index"]

_BATCH = 256
"""How many marks are written and synced at a time: a crash can leave no more than these damaged."""

_MARKS_A_RUN = 1024
"""How many marks a run of custody writes at most, so that one that finds a long log without an index soon ends."""


def follow_index(log: Log) -> None:
    """Write the index of what a run has kept. What hinders it does not hinder custody; a check reports it."""
    with suppress(MissingComponent, MalformedInput):
        write_index(log, limit=_MARKS_A_RUN)


def index_banks(log: Log) -> tuple[HashAlgorithm, ...]:
    """The banks to have register values in: those the journal has noted, SHA-1 and SHA-256."""
    noted = log.noted_state.banks if log.noted_state else ()
    banks = dict.fromkeys((SHA1, SHA256, *noted))
    return tuple(bank for bank in banks if bank.tcg_id and bank.computable)


def write_index(log: Log, *, limit: int | None = None, anew: bool = False) -> int:
    """Bring a log's index up to its last kept record, or ``limit`` marks on; how many marks were written.

    For the holder of the store's exclusive lock. What is there is gone on with, unless it is about another log, lacks a
    bank, or is to be made ``anew``. Raises MissingComponent, and MalformedRecord for a list that cannot be read.
    """
    index = None if anew else _usable(log)
    if index is None:
        known = log.meta.start == "reset"
        index = _begin(log.index_path, IndexHeader(log.meta.identity, index_banks(log), (IMA_PCR,), known))
    there = _cut(index, log)
    if there == log.records // STRIDE:
        return 0
    writer = _Writer(index, there)
    marks: list[Mark] = []
    written = 0
    marker = Marker(log.layout, index.header.banks, padded=log.meta.padded, start=writer.last)
    for block in log.blocks(writer.last.offset):
        for stretch in marker.feed(block):
            marks.append(stretch.mark)
            written += 1
            if len(marks) == _BATCH or written == limit:
                writer.write(marks)
                marks.clear()
            if written == limit:
                return written
    writer.write(marks)
    return written


class _Writer:
    """Appends marks to an index, which gets places for more registers when a mark has them."""

    def __init__(self, index: Index, marks: int) -> None:
        self._index = index
        start = ChainState() if index.header.known else None
        self.last = index.mark(marks - 1) if marks else Mark(state=start)

    def write(self, marks: list[Mark]) -> None:
        if not marks:
            return
        for mark in marks:
            if not self._index.header.covers(mark):
                self._widen(mark)
        header = self._index.header
        durable.append(self._index.path, b"".join(map(header.encode_slot, marks)))
        durable.sync_file(self._index.path)
        self.last = marks[-1]

    def _widen(self, mark: Mark) -> None:
        """Give the mark's registers a place in every slot."""
        old = self._index.header
        named = mark.state.values if mark.state else {}
        registers = (*old.registers, *sorted(named.keys() - set(old.registers)))
        header = IndexHeader(old.log, old.banks, registers, old.known)
        slots = (header.encode_slot(self._index.mark(number)) for number in range(self._index.marks))
        durable.replace_file(self._index.path, header.encode() + b"".join(slots))
        self._index = Index(self._index.path, header)


def _usable(log: Log) -> Index | None:
    """The index that is there, if it can be gone on with."""
    try:
        index = read_index(log.index_path, log.meta.identity)
    except MalformedInput:
        return None
    if index is None or set(index_banks(log)) - set(index.header.banks):
        return None
    return index if all(bank.computable for bank in index.header.banks) else None


def _begin(path: Path, header: IndexHeader) -> Index:
    durable.replace_file(path, header.encode())
    return Index(path, header)


def _cut(index: Index, log: Log) -> int:
    """Cut what a crash left, or what is about records the log has not; how many marks stay."""
    marks = min(index.marks, log.records // STRIDE)
    for number in range(max(0, marks - _BATCH), marks):
        try:
            mark = index.mark(number)
        except MalformedInput:
            mark = None
        if mark is None or mark.offset > log.bytes:
            marks = number
            break
    size = index.header.size + marks * index.header.slot_size
    if durable.size_of(index.path) != size:
        durable.truncate(index.path, size)
    return marks
