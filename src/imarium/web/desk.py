"""Behind the routes: one source's logs, what its kernel still has, and its root of trust, for many clients at once."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from weakref import WeakKeyDictionary

from imarium.chain import ChainState
from imarium.custody import KeepResult, Log, Store, Whole
from imarium.errors import UsageError
from imarium.hashes import HashAlgorithm
from imarium.web.limits import Limits
from imarium.web.problems import Problem
from imarium.web.records import Extent, Source, kept_source, whole_source
from imarium.web.shelf import Shelf, Standing

__all__ = ["Desk", "Holding", "Made", "Steward"]

_NEAR = 1 << 14
"""How many records are replayed for whoever asks, without waiting for a turn."""
_REST = 0.1
"""Seconds between two looks at the kernel's list: during one no drain can be made, and clients must hold none up."""
_SMALL = 1 << 16
_SMALL_BODIES = 64


class Steward(Protocol):
    """The running service, as the API asks it; :class:`imarium.custody.Service` is one. For any thread."""

    def describe(self) -> dict[str, object]:
        """Its status as a JSON document."""

    def submit(self, name: str | None = None) -> Future[KeepResult]:
        """Ask for a drain of one source."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One source as the API serves it: its name and its store.

    ``whole`` reads what is kept and what the kernel has behind it; it is given the newest log, if that is open already.
    ``quote`` makes evidence over a nonce with the records from a number on, of the view that it is given. Both are
    called in threads, each by one at a time; None where there is no such thing.
    """

    name: str
    store: Store
    whole: Callable[[Log | None], Whole] | None = None
    quote: Callable[[bytes, int, Callable[[], Whole]], bytes] | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Made:
    """Evidence that was made, to be sent."""

    data: bytes

    def pieces(self, size: Callable[[], int]) -> Generator[bytes, None, None]:
        """It, in pieces of at most ``size`` bytes."""
        at = 0
        while at < len(self.data):
            piece = self.data[at : at + size()]
            at += len(piece)
            yield piece


class Desk:
    """Serves one holding. For one event loop."""

    def __init__(self, holding: Holding, limits: Limits) -> None:
        self.name = holding.name
        self.shelf = Shelf(holding.store)
        self.limits = limits
        self._holding = holding
        self._look: asyncio.Task[tuple[Whole, Source]] | None = None
        self._held: WeakKeyDictionary[Source | Made, int] = WeakKeyDictionary()
        """How many bytes in memory each list or evidence has that is being sent; it leaves with its last holder."""
        self._quoting = asyncio.Lock()
        self._quotes = 0
        self._replaying = asyncio.Lock()
        self._replays = 0
        self._reading = threading.Lock()
        self._rested = 0.0
        self._small: OrderedDict[str, asyncio.Task[bytes]] = OrderedDict()

    @property
    def can_quote(self) -> bool:
        """Whether there is a root of trust."""
        return self._holding.quote is not None

    @property
    def held(self) -> int:
        """How many bytes of the kernel's records and of evidence the answers under way hold."""
        return sum(self._held.values())

    async def log(self, number: int | None) -> Standing:
        """A log as it is now. Raises Problem if there is no such log."""
        try:
            return await self.shelf.log(number)
        except UsageError as error:
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_log", str(error)) from None

    async def source(self, standing: Standing, *, pending: bool) -> Source:
        """A log's records; with those still in the kernel, if ``pending`` and the log is the newest.

        Raises Problem if answers under way hold too much already.
        """
        if not pending or standing.closed:
            return kept_source(standing.log, standing.records, standing.bytes)
        if self._look is None:
            self._check_room("too_much_pending", "ask without pending, or later")
            self._look = asyncio.create_task(asyncio.to_thread(self._whole))
            self._look.add_done_callback(self._let_go)
        whole, source = await asyncio.shield(self._look)
        if whole.log is None or whole.log.number != standing.log.number:
            return kept_source(standing.log, standing.records, standing.bytes)  # the kernel's records continue another
        self._held[source] = len(whole.pending)
        return source

    async def news(self, since: Standing, seconds: float) -> None:
        """Wait for new records. Raises Problem if too many wait already."""
        if self.shelf.waiters >= self.limits.waiters:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "too_many_waiters", "too many requests wait; ask without wait"
            )
        await self.shelf.news(since, seconds)

    async def state(self, log: Log, number: int, banks: Sequence[HashAlgorithm]) -> ChainState:
        """The registers after ``number`` records. Where the index has not these banks, one replays at a time.

        Raises Problem if too many wait for that, and what the log raises.
        """
        mark = await asyncio.to_thread(log.mark_before, number, banks)
        if number - mark.records <= _NEAR:
            return await asyncio.to_thread(log.state_at, number, banks)
        if self._replays >= self.limits.replays:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_replays", "too many requests wait for a replay")
        self._replays += 1
        try:
            async with self._replaying:
                return await asyncio.to_thread(log.state_at, number, banks)
        finally:
            self._replays -= 1

    async def quote(self, nonce: bytes, first: int) -> Made:
        """Evidence. Raises Problem if there is no root of trust, or too many wait for it, or too much is being sent."""
        make = self._holding.quote
        if make is None:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "no_root", "this service has no root of trust to quote with")
        if self._quotes >= self.limits.quotes:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_quotes", "too many requests wait for a quote")
        async with self._turn():
            self._check_room("too_much_evidence", "ask later")
            made = Made(await asyncio.to_thread(make, nonce, first, self._read))
            self._held[made] = len(made.data)
            return made

    async def body(self, extent: Extent) -> bytes | None:
        """The body of a short answer, made once for all who ask for it; None for one that is better streamed."""
        if extent.end - extent.start > _SMALL:
            return None
        task = self._small.get(extent.tag)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_joined, extent.blocks()))
            self._small[extent.tag] = task
            while len(self._small) > _SMALL_BODIES:
                self._small.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except BaseException:
            self._small.pop(extent.tag, None)
            raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._quotes += 1
        try:
            async with self._quoting:
                yield
        finally:
            self._quotes -= 1

    def _check_room(self, code: str, advice: str) -> None:
        if self.held > self.limits.held:
            detail = f"answers under way hold {self.held} bytes in memory; {advice}"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail)

    def _let_go(self, _look: object) -> None:
        """Let go of what a look has found: those alone who send it hold it."""
        self._look = None

    def _whole(self) -> tuple[Whole, Source]:
        whole = self._read()
        return whole, whole_source(whole)

    def _read(self) -> Whole:
        if self._holding.whole is None:
            raise UsageError("this service does not see the kernel's list; ask without pending")
        with self._reading:
            time.sleep(max(0.0, self._rested - time.monotonic()))
            try:
                return self._holding.whole(self.shelf.known)
            finally:
                self._rested = time.monotonic() + _REST


def _joined(blocks: Iterator[bytes]) -> bytes:
    return b"".join(blocks)
