"""The whole list, live: what is kept, and behind it what the kernel still has, read at any byte.

A look takes the kernel's lists in one snapshot. While that is open nobody can stage or delete, so no drain is between
its steps, and the store is read without its lock: a log is only appended to. Where the kernel's lists are busy, what
the last look saw stands: it is a beginning of what the next one sees.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from imarium import durable
from imarium.custody.continuity import Continuity, look
from imarium.custody.listing import Listing
from imarium.custody.log import Log
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.source import Lists, Source, read_all
from imarium.custody.store import Store
from imarium.errors import MissingComponent
from imarium.formats.records import ListLayout, RecordFramer
from imarium.hashes import HashAlgorithm
from imarium.securityfs import ListBusy

__all__ = ["View", "WholeList"]

_IN_MEMORY = 1 << 26
"""Most bytes of the kernel's records that are held in memory; more go to a temporary file without a name."""
_BLOCK = 1 << 18


class WholeList:
    """One life of the registers as one list, in the kernel's binary form with SHA-1. Its bytes only grow in number.

    ``size`` and ``records`` are as of the last look. ``log`` is None if nothing of this life is kept yet.
    """

    def __init__(self, log: Log | None, layout: ListLayout, padded: frozenset[HashAlgorithm]) -> None:
        self.log = log
        self.layout = layout
        self.padded = padded
        self._kept = self.size = log.bytes if log else 0
        self.records = log.records if log else 0
        self._pending: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the list

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; none at the end. Raises MissingComponent."""
        if self.log is not None and offset < self._kept:
            return b"".join(self.log.blocks(offset, min(offset + size, self._kept)))
        self._pending.seek(offset - self._kept)
        return self._pending.read(max(0, min(size, self.size - offset)))

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from ``start`` to the end, in blocks."""
        while block := self.read(start, _BLOCK):
            start += len(block)
            yield block

    def close(self) -> None:
        """Let go of what was read from the kernel."""
        self._pending.close()

    def grow(self, blocks: Iterator[bytes]) -> None:
        """Take up records that the kernel has behind the end.

        Raises MalformedRecord, and MissingComponent where there is no room for them, and then has not grown.
        """
        framer = RecordFramer(self.layout, first=self.records, offset=self.size)
        self._pending.seek(self.size - self._kept)
        for block in blocks:
            framer.feed(block)
            with durable.storage_errors(Path(tempfile.gettempdir())):
                self._pending.write(block)
        framer.finish()
        self.records, self.size = framer.number, framer.offset

    def goes_on_as(self, later: "WholeList") -> bool:
        """Whether ``later``, just looked at, is this list with perhaps more behind it."""
        if self.log is not None and (later.log is None or later.log.number != self.log.number):
            return False
        if later.size < self.size:
            return False
        position = self._kept
        while position < self.size:
            block = self.read(position, min(_BLOCK, self.size - position))
            if not block or b"".join(later._between(position, position + len(block))) != block:
                return False
            position += len(block)
        return True

    def become(self, later: "WholeList") -> None:
        """Take over what a later look saw, which this list goes on as."""
        self.close()
        self.log, self.layout, self.padded = later.log, later.layout, later.padded
        self._kept, self.size, self.records, self._pending = later._kept, later.size, later.records, later._pending

    def _between(self, start: int, end: int) -> Iterator[bytes]:
        while start < end and (block := self.read(start, end - start)):
            start += len(block)
            yield block


@dataclass(slots=True)
class _Seen:
    """What the last look found: the store's mark, and the size and digest of what the kernel had."""

    mark: tuple[int, int] | None
    size: int
    digest: bytes


class View:
    """The whole list of a source and its store. For one thread.

    The store need not be there yet. ``verdict`` and ``reason`` of the last full look say on what grounds the kernel's
    records continue the log.
    """

    def __init__(self, store: Path, source: Source, *, boot_id: str, registers: ReadRegisters = no_registers) -> None:
        self._store = store
        self._source = source
        self._boot_id = boot_id
        self._registers = registers
        self._whole: WholeList | None = None
        self._log: Log | None = None
        self._seen = _Seen(None, 0, b"")
        self.found: Continuity | None = None

    def now(self) -> WholeList:
        """The list as it is now.

        The same object for as long as it is the same life, so that who has read it up to its end can read on. Raises
        the source's errors, MalformedRecord for a kernel list that cannot be read, MalformedInput and MissingComponent
        for a damaged store.
        """
        try:
            with self._source.snapshot() as lists:
                return self._look(lists)
        except ListBusy:
            if self._whole is None:
                raise
            return self._whole

    def _look(self, lists: Lists) -> WholeList:
        store = Store(self._store) if Store.is_begun(self._store) else None
        mark = store.mark if store else None
        if self._whole is not None and mark == self._seen.mark and self._has_grown(self._whole, lists):
            return self._whole
        log = self._log = self._newest(store) if store else None
        found, kernel = look(log, lists, self._registers, self._boot_id)
        whole = WholeList(found.log, found.layout, found.padded)
        whole.grow(kernel.blocks(found.overlap))
        self.found, self._seen = found, _Seen(mark, kernel.size, _digest(kernel))
        if self._whole is not None and self._whole.goes_on_as(whole):
            self._whole.become(whole)
        else:
            self._whole = whole
        return self._whole

    def _newest(self, store: Store) -> Log | None:
        """The newest log as it is now; of one that is known, only what was written since is read.

        It is kept open if it may be written to: a policy that measures what is opened then measures it once, and not
        after each drain.
        """
        if self._log is not None and self._log.number == max(store.numbers, default=None):
            return self._log.refreshed()
        log = store.newest()
        if log is not None:
            with suppress(MissingComponent):
                log.keep_open()
        return log

    def _has_grown(self, whole: WholeList, lists: Lists) -> bool:
        """Whether the kernel has what it had and perhaps more, which ``whole`` then has too."""
        if not whole.size:
            return False  # its layout is not known yet
        known, found = self._seen, hashlib.sha256()
        size = 0
        blocks = read_all(lists)
        rest = b""
        for block in blocks:
            head = block[: known.size - size]
            found.update(head)
            size += len(head)
            if size == known.size:
                rest = block[len(head) :]
                break
        if size < known.size or found.digest() != known.digest:
            return False

        def behind() -> Iterator[bytes]:
            for block in chain([rest], blocks):
                found.update(block)
                yield block

        before = whole.size
        whole.grow(behind())
        self._seen = _Seen(known.mark, size + whole.size - before, found.digest())
        return True


def _digest(kernel: Listing) -> bytes:
    digest = hashlib.sha256()
    for block in kernel.blocks():
        digest.update(block)
    return digest.digest()
