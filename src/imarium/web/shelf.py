"""The logs of a store, kept open for many readers at once, and word of what is new.

Files are looked at in threads, and by one at a time: a thousand readers that ask at once cause one look.
"""

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass

from imarium.custody import Log, Store
from imarium.errors import ImariumError, MissingComponent

__all__ = ["Shelf", "Standing"]

_OPEN_LOGS = 8


@dataclass(frozen=True, slots=True)
class Standing:
    """A log at one moment: its first ``records`` records, in ``bytes`` bytes, are kept. A closed one gets no more."""

    log: Log
    records: int
    bytes: int
    closed: bool


class Shelf:
    """The logs of ``store``. ``poll`` is how often, in seconds, it is looked for news while someone waits for some.

    Methods are for one event loop. They raise what opening a log raises.
    """

    def __init__(self, store: Store, *, poll: float = 0.05) -> None:
        self._store = store
        self._poll = poll
        self._newest: Log | None = None
        self._closed: OrderedDict[int, tuple[int, Log]] = OrderedDict()
        self._look: asyncio.Task[Log | None] | None = None
        self._news = asyncio.Event()
        self._told: object = None
        self._poller: asyncio.Task[None] | None = None
        self.waiters = 0

    async def numbers(self) -> tuple[int, ...]:
        """The numbers of the logs, oldest first."""
        return await asyncio.to_thread(lambda: self._store.numbers)

    @property
    def known(self) -> Log | None:
        """The newest log as it was when last looked at."""
        return self._newest

    async def newest(self) -> Standing:
        """The newest log as it is now. Raises MissingComponent if there is none."""
        log = await self._looked()
        if log is None:
            raise MissingComponent(f"{self._store.path}: nothing is kept yet")
        return _standing(log, closed=False)

    async def log(self, number: int | None) -> Standing:
        """A log by its number, or the newest. Raises UsageError if there is no such log, MissingComponent."""
        try:
            newest = await self.newest()
        except ImariumError:
            if number is None or number == max(await self.numbers(), default=number):
                raise  # that the newest is damaged hinders no other
        else:
            if number is None or number == newest.log.number:
                return newest
        return _standing(await self._closed_log(number), closed=True)

    async def news(self, since: Standing, seconds: float) -> None:
        """Wait until ``since`` is no longer how its log is, or ``seconds`` are over."""
        self.waiters += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._watch())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not since.closed and self._is_as(since):
                        await self._news.wait()
        finally:
            self.waiters -= 1

    def _is_as(self, since: Standing) -> bool:
        newest = self._newest
        return newest is None or (newest.number == since.log.number and newest.records == since.records)

    async def _watch(self) -> None:
        """Look for news for as long as anyone waits for some."""
        while self.waiters:
            await asyncio.sleep(self._poll)
            with contextlib.suppress(ImariumError):  # who asks again is told
                await self._looked()

    async def _looked(self) -> Log | None:
        """The newest log, looked at not before now, together with all others who want to look."""
        if self._look is not None and not self._look.done():
            await asyncio.wait([self._look])  # it may have looked before what is wanted was there
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._take())
        return await asyncio.shield(self._look)

    async def _take(self) -> Log | None:
        log = await asyncio.to_thread(self._refreshed, self._newest)
        self._newest = log
        state = (log.number, log.records) if log is not None else None
        if state != self._told:
            self._told = state
            self._news.set()
            self._news = asyncio.Event()
        return log

    def _refreshed(self, known: Log | None) -> Log | None:
        numbers = self._store.numbers
        if not numbers:
            return None
        if known is None or known.number != numbers[-1]:
            known = self._store.log(numbers[-1])
            known.keep_open()
        return known.refreshed()

    async def _closed_log(self, number: int) -> Log:
        changed = await asyncio.to_thread(self._store.changed, number)
        known, log = self._closed.get(number, (changed, None))
        if log is None or known != changed:
            log = await asyncio.to_thread(self._store.log, number)
            log.keep_open()  # so that it can be read to its end while it is compressed or deleted
        self._remember(log, changed)
        return log

    def _remember(self, log: Log, changed: int) -> None:
        self._closed[log.number] = changed, log
        self._closed.move_to_end(log.number)
        while len(self._closed) > _OPEN_LOGS:
            self._closed.popitem(last=False)


def _standing(log: Log, *, closed: bool) -> Standing:
    return Standing(log, log.records, log.bytes, closed)
