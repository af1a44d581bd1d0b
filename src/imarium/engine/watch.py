"""A watch: files are measured before they are used, and nobody waits longer than a deadline.

One thread for each file system takes its events and waits for nothing else, some measure, one looks at the clock, one
tells of problems. The engine's own tasks are let go at once, whatever they open, so that it never waits for itself. If
the process dies, the kernel lets everybody go; if it stands still, a guardian kills it.
"""

import os
import queue
import resource
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from imarium.engine.fanotify import EVENTS_AT_ONCE, FanotifyGroup, Happened, RawEvent
from imarium.engine.guardian import Guardian
from imarium.engine.problems import Problem, ProblemKind, Problems
from imarium.engine.watch_scope import Scope
from imarium.errors import ImariumError, MissingComponent

__all__ = ["Watch", "WatchOptions", "Watcher"]

_SPARE_DESCRIPTORS = 128
"""For everything but events."""
_TICK = 0.25
_MORE_WORKERS = 4
"""How many times as many threads measure, at most, when some of them hang."""


class Watcher(Protocol):
    """What measures: see :class:`imarium.engine.FileMeasurer`. Called from several threads."""

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        """A task waits for a file. Raises OSError, ImariumError."""

    def closed(self, descriptor: int) -> None:
        """Somebody who could write has closed a file. Raises OSError, ImariumError."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """``deadline`` in seconds is how long anybody waits, ``waiting`` how many may at the same time.

    ``workers`` is the number of threads that measure. What the processes of ``exempt`` open is let go at once, as is
    what this process opens: those that measuring itself depends on. If this process stands still for ``patience``
    seconds, it is killed.
    """

    deadline: float = 5.0
    patience: float = 20.0
    workers: int = 4
    waiting: int = 512
    exempt: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class _Source:
    """The events of one file system. Taking one opens its file, and where that hangs nobody else's events wait.

    ``root`` is a path on it, ``reading`` since when its thread takes some, if it does; ``hangs`` says that this was
    told.
    """

    root: Path
    group: FanotifyGroup = field(default_factory=FanotifyGroup)
    reading: float | None = None
    hangs: bool = False

    def read(self) -> list[RawEvent]:
        """The events there are. Raises OSError."""
        self.reading = time.monotonic()
        try:
            return self.group.read()
        finally:
            self.reading = None


@dataclass(slots=True, eq=False)
class _Pending:
    """An event that is being looked after. It is answered once."""

    group: FanotifyGroup
    event: RawEvent
    deadline: float
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> bool:
        """Let the task go; False if it has been."""
        with self.lock:
            first, self.done = not self.done, True
        if first and self.event.happened.waits:
            self.group.allow(self.event.descriptor)
        return first


class Watch:
    """Watches ``paths`` while its ``with`` block runs: whole file systems where they are mounted, else what is below.

    ``tell`` is told of each problem, in a thread of its own. ``mounts`` are where this process serves file systems
    itself: they cannot be watched, for reading an event would wait for its own answer.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        watcher: Watcher,
        tell: Callable[[Problem], None],
        *,
        options: WatchOptions | None = None,
        mounts: Sequence[Path] = (),
    ) -> None:
        """Raises UsageError for paths that cannot be watched, MissingComponent where nothing can be."""
        self.options = options or WatchOptions()
        self._scope = Scope(paths, mounts)
        self._watcher = watcher
        FanotifyGroup().close()  # what may not watch is told before anything begins
        self._file_systems = self._scope.file_systems()
        self._limit = _room(self.options.waiting, len(self._file_systems) * EVENTS_AT_ONCE)
        self._sources: list[_Source] = []
        self._guardian = Guardian(self.options.patience)
        self._guarded = True
        self._work: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._problems = Problems(tell)
        self._waiting: deque[_Pending] = deque()
        self._open = 0
        self._busy = 0
        self._stalled = False
        self._count = threading.Lock()
        self._stopping = threading.Event()
        self._all_done = threading.Event()
        self._exempt: list[int] = []
        self._takers: list[threading.Thread] = []
        self._threads: list[threading.Thread] = []
        self._tellers: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Raises MissingComponent where fanotify, or an exempt process, is not there. Then nothing is watched."""
        try:
            self._guardian.__enter__()
            for process in ("self", *map(str, self.options.exempt)):
                self._exempt.append(_process(process))
            for paths in self._file_systems:
                self._sources.append(_Source(paths[0]))
            self._start()
            for source, paths in zip(self._sources, self._file_systems, strict=True):
                for path in paths:
                    source.group.watch(path)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Let everybody go and watch no more. What is being measured is finished, unless it hangs."""
        self._stopping.set()
        deadline = time.monotonic() + self.options.deadline
        for thread in self._takers:
            thread.join(4 * _TICK)
        self._wait_for_measuring(4 * _TICK)
        for pending in self._waiting.copy():
            self._let_go(pending, "the watch has ended")
        for source, taker in zip(self._sources, self._takers, strict=False):  # fewer, if it could not begin
            with suppress(RuntimeError):  # there may be no more threads
                _free(source.group, taker)
        for source in self._sources:
            source.group.close()
        for _ in self._workers:
            self._work.put(None)
        for thread in (*self._threads, *self._workers):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._all_done.set()
        for thread in self._tellers:
            thread.join(max(4 * _TICK, deadline - time.monotonic()))
        self._guardian.__exit__()
        while self._exempt:
            os.close(self._exempt.pop())

    def _start(self) -> None:
        vars(subprocess)["_USE_VFORK"] = False  # a child that waits for us must not keep our threads from running
        self._workers = [_thread("measure", self._measure) for _ in range(self.options.workers)]
        self._takers = [_thread("take", self._take, source) for source in self._sources]
        self._threads = [_thread("clock", self._watch_clock)]
        self._tellers = [_thread("tell", self._problems.run, self._all_done)]

    def _take(self, source: _Source) -> None:
        """Take events. Whatever waits is answered, or has a deadline."""
        poller = select.poll()
        poller.register(source.group.descriptor, select.POLLIN)
        while not self._stopping.is_set():
            try:
                if poller.poll(_TICK * 1000):
                    for event in source.read():
                        self._dispatch(source.group, event)
            except OSError as error:
                if not self._stopping.is_set():
                    self._problems.add(Problem(ProblemKind.FAILED, b"", 0, f"taking events: {error.strerror}"))

    def _dispatch(self, group: FanotifyGroup, event: RawEvent) -> None:
        if event.happened & Happened.OVERFLOW:
            self._problems.add(Problem(ProblemKind.OVERFLOW, b"", 0, "the kernel's queue of events was full"))
            return
        pending = _Pending(group, event, time.monotonic() + self.options.deadline)
        if self._is_exempt(event.task):
            self._finish(pending)
            return
        with self._count:
            room = self._open < self._limit and not self._stalled
            self._open += room
        if not room:
            name = _name(event.descriptor)
            reason = "measuring hangs" if self._stalled else f"{self._limit} files are waiting already"
            self._finish(pending)
            self._problems.add(Problem(ProblemKind.OVERLOADED, name, event.task, reason))
            return
        if event.happened.waits:
            self._waiting.append(pending)
        self._work.put(pending)

    def _is_exempt(self, task: int) -> bool:
        return any(os.access(f"task/{task}", os.F_OK, dir_fd=process) for process in self._exempt)

    def _measure(self) -> None:
        while (pending := self._work.get()) is not None:
            done = False
            with self._count:
                self._busy += 1
            try:
                self._handle(pending.event)
                done = True
            finally:
                self._stalled = False
                if not done:
                    self._problems.add(
                        Problem(ProblemKind.FAILED, _name(pending.event.descriptor), pending.event.task, "broke off")
                    )
                self._finish(pending)
                with self._count:
                    self._open -= 1
                    self._busy -= 1

    def _handle(self, event: RawEvent) -> None:
        try:
            if self._scope.covers(event.descriptor):
                if event.happened.waits:
                    executes = bool(event.happened & Happened.EXECUTE)
                    self._watcher.opened(event.descriptor, event.task, executes=executes)
                else:
                    self._watcher.closed(event.descriptor)
        except (ImariumError, OSError) as error:
            self._problems.add(Problem(ProblemKind.FAILED, _name(event.descriptor), event.task, str(error)))

    def _watch_clock(self) -> None:
        """Let go what has waited too long, and then say so. Without a thread that takes events all is lost."""
        while not self._stopping.wait(min(_TICK, self.options.deadline / 4)):
            if all(taker.is_alive() for taker in self._takers):
                self._check_guardian()
            self._workers = [worker if worker.is_alive() else self._worker() or worker for worker in self._workers]
            now = time.monotonic()
            for source in self._sources:
                self._check_reading(source, now)
            while self._waiting and (self._waiting[0].done or self._waiting[0].deadline <= now):
                if self._let_go(self._waiting.popleft(), f"not measured within {self.options.deadline:g} seconds"):
                    self._relieve()

    def _let_go(self, pending: _Pending, why: str) -> bool:
        """Let the task go unmeasured, and say so; False if it has been measured."""
        name = b"" if pending.done else _name(pending.event.descriptor)
        unmeasured = pending.answer()
        if unmeasured:
            self._problems.add(Problem(ProblemKind.OVERDUE, name, pending.event.task, why))
        return unmeasured

    def _wait_for_measuring(self, seconds: float) -> None:
        """Until whatever waits has been measured, or was not to be; so long at most."""
        end = time.monotonic() + seconds
        while not all(pending.done for pending in self._waiting.copy()) and time.monotonic() < end:
            time.sleep(0.01)

    def _check_guardian(self) -> None:
        """Say that this process is alive; and once, if nobody hears it."""
        guarded = self._guardian.alive()
        if self._guarded and not guarded:
            detail = "the guardian has ended: should this engine stand still, nobody goes on; start it anew"
            self._problems.add(Problem(ProblemKind.FAILED, b"", self._guardian.process or 0, detail, uses=0))
        self._guarded = guarded

    def _check_reading(self, source: _Source, now: float) -> None:
        """Say it once where taking events hangs: who opens that file waits for the same."""
        since = source.reading
        late = since is not None and now - since > self.options.deadline + _TICK
        if late and not source.hangs:
            detail = "this file system does not open a file: who opens its files waits for that"
            self._problems.add(Problem(ProblemKind.OVERDUE, os.fsencode(source.root), 0, detail))
        source.hangs = late

    def _relieve(self) -> None:
        """One more thread measures in the place of one that hangs; if all that there may be hang, nobody waits."""
        more = self._worker() if len(self._workers) < _MORE_WORKERS * self.options.workers else None
        if more is not None:
            self._workers.append(more)
        elif self._busy >= len(self._workers):
            self._stalled = True

    def _worker(self) -> threading.Thread | None:
        """A thread that measures; none where this machine can start no more threads."""
        with suppress(RuntimeError):
            return _thread("measure", self._measure)
        return None

    def _finish(self, pending: _Pending) -> None:
        """Let the task go and the file with it. Some file systems fail to close a file: that keeps nobody."""
        try:
            pending.answer()
        finally:
            with suppress(OSError):
                os.close(pending.event.descriptor)


def _thread(name: str, job: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=job, args=arguments, name=f"imarium-watch-{name}", daemon=True)
    thread.start()
    return thread


def _free(group: FanotifyGroup, taker: threading.Thread) -> None:
    """Let everybody go of whom no event was taken, where taking one hangs: closing the group waits for that.

    Whose file is not opened for this process has the same to wait for. It can hang in one thread after the other.
    """
    for _ in range(_MORE_WORKERS):
        if not taker.is_alive():
            return
        taker = _thread("free", group.free)
        taker.join(4 * _TICK)


def _process(number: str) -> int:
    """A process's directory: once it has ended, no other that gets its number is found there."""
    try:
        return os.open(f"/proc/{number}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MissingComponent(f"there is no process {number} to exempt: {error.strerror}") from error


def _name(descriptor: int) -> bytes:
    """The file's name for a message; asks no file system."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)  # noqa: PTH115 - names are bytes
    except OSError:
        return b"?"


def _room(wanted: int, taken: int) -> int:
    """How many files can wait at once, while ``taken`` more are open that were taken and not looked at yet.

    The kernel refuses an open whose event finds no descriptor here.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = hard - _SPARE_DESCRIPTORS - taken if hard != resource.RLIM_INFINITY else wanted
    if room < 1:
        raise MissingComponent(f"this process may open {hard} files; watching takes {hard - room + 1} (ulimit -n)")
    return min(wanted, room)
