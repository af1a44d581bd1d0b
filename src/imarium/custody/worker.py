"""One source of the service: drained when it is due, in a thread of its own, whatever happens."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from imarium.custody.gap import Sightings
from imarium.custody.journal import now
from imarium.custody.keeper import Keeper
from imarium.custody.life import ReadMachine
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.result import KeepResult
from imarium.custody.schedule import Cause, Schedule, pause_after
from imarium.custody.source import Source, WantedMethod
from imarium.custody.status import EventKind, LastDrain, OnEvent, ServiceEvent, SourceStatus
from imarium.custody.steps import Hook, Step, no_hook
from imarium.custody.store import Store
from imarium.errors import ImariumError, RefusedOperation

__all__ = ["SourceConfig", "Worker"]

_MOST_GAPS = 100
"""How many gaps a status has at most."""
_WORK = 0.1
"""Seconds of processor time that show that a worker is at work."""
_TICK = 60.0
"""Seconds after which a worker that waits looks up, at the latest."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A source and its store. ``boot_id`` is that of the kernel the source belongs to.

    ``registers`` reads the registers its records are extended into, ``machine`` what more tells its life from another.
    ``patience`` is how many seconds the store's lock
    is waited for; that of the lists is the source's own.
    """

    name: str
    source: Source
    store: Path
    boot_id: str
    registers: ReadRegisters = no_registers
    machine: ReadMachine | None = None
    method: WantedMethod = "auto"
    schedule: Schedule = field(default_factory=Schedule)
    patience: float = 5.0
    hook: Hook = no_hook

    def keeper(self) -> Keeper:
        """A keeper of this source, in its store, which is made if it is not there. Raises as :class:`Store`."""
        store = Store(self.store, create=True, patience=self.patience)
        return Keeper(
            store,
            self.source,
            boot_id=self.boot_id,
            registers=self.registers,
            machine=self.machine,
            hook=self.hook,
        )


class Worker:
    """Drains one source until it is told to stop. :meth:`run` is its thread; the other methods are for any thread.

    An error is counted and shown in the status, and the drain is tried again, later each time; nothing is deleted
    from the kernel meanwhile.
    """

    def __init__(self, config: SourceConfig, on_event: OnEvent, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._on_event = on_event
        self._clock = clock
        self._change = threading.Condition()
        self._waiting: list[Future[KeepResult]] = []
        self._stopping = False
        self._ended = False
        self._failures = 0
        self._drained_at = self._beat_at = clock()
        self._processor: int | None = None
        self._worked_before = 0.0
        self._keeper: Keeper | None = None
        self._sightings = Sightings()
        self.status = SourceStatus(config.name, str(config.store))

    def request(self) -> Future[KeepResult]:
        """Ask for a drain; its result, or its error. A drain that is under way does not count."""
        future: Future[KeepResult] = Future()
        with self._change:
            self._waiting.append(future)
            self._change.notify()
            if self._ended:
                self._turn_away()
        return future

    def stop(self) -> None:
        """Drain once more, and end."""
        with self._change:
            self._stopping = True
            self._change.notify()

    @property
    def broke_off(self) -> bool:
        """Whether its thread ended without having been told to stop."""
        return self._ended and not self._stopping

    def quiet_for(self) -> float:
        """Seconds since it last showed that it lives: by a step, or by the work it was seen to do. For one thread."""
        worked = self._worked()
        if worked >= self._worked_before + _WORK:
            self._worked_before = worked
            self._beat_at = self._clock()
        return self._clock() - self._beat_at

    def _worked(self) -> float:
        """Processor time of its thread in seconds: a step over a long list takes long, and is no reason to end it."""
        with suppress(OSError):  # it has ended
            return 0.0 if self._processor is None else time.clock_gettime(self._processor)
        return 0.0

    def run(self) -> None:
        """Drain when due, until told to stop."""
        self._processor = time.pthread_getcpuclockid(threading.get_ident())
        self._emit("started", f"keeping {self.config.name} in {self.config.store}")
        try:
            cause: Cause | None = Cause.START
            while cause is not Cause.STOP:
                cause = self._next(cause)
                self._drain(cause)
        finally:
            with self._change:
                self._ended = True
                self._turn_away()
            if self._keeper is not None:
                self._keeper.close()
            self.status = replace(self.status, state="stopped")
            self._emit("stopped", self.status.reason)

    def _next(self, cause: Cause | None) -> Cause:
        """Wait until a drain is due; why it is."""
        first = cause is Cause.START and not self.status.drains and not self._failures
        while True:
            with self._change:
                if self._stopping:
                    return Cause.STOP
                if self._waiting:
                    return Cause.REQUEST
                if first:
                    return Cause.START
                self._change.wait(min(self.config.schedule.poll, _TICK))
                if self._stopping or self._waiting:
                    continue
            self._beat_at = self._clock()
            if due := self._due():
                return due

    def _due(self) -> Cause | None:
        """Whether a drain is due, by the clock and the kernel's counter."""
        schedule = self.config.schedule
        since = self._clock() - self._drained_at
        if self._failures:
            return Cause.RETRY if since >= pause_after(self._failures, schedule.interval) else None
        self._look()
        arrived = self._sightings.arrived  # what was there after the last drain cannot be deleted
        return schedule.due(since, arrived, self._estimate(arrived))

    def _look(self) -> None:
        """Read the kernel's counter."""
        lag: int | None = None
        with suppress(ImariumError):  # whatever it is, the next drain says it
            lag = self.config.source.count()
        if lag is not None:
            self._sightings.saw(lag)
        estimate = None if lag is None else self._estimate(lag)
        if (lag, estimate) != (self.status.lag, self.status.lag_bytes):
            self.status = replace(self.status, lag=lag, lag_bytes=estimate)

    def _estimate(self, records: int) -> int:
        """About how many bytes so many records have, by the mean of those kept."""
        status = self.status
        return round(records * status.bytes / status.records) if status.records else 0

    def _drain(self, cause: Cause) -> None:
        with self._change:
            served = len(self._waiting)
        begun = self._clock()
        try:
            result = self._keep()
        except ImariumError as error:
            self._failed(error, cause)
            answer: KeepResult | ImariumError = error
        else:
            self._drained(result, cause, self._clock() - begun)
            self._look_anew(result)
            answer = result
        self._drained_at = self._beat_at = self._clock()
        with self._change:
            self._answer(served, answer)

    def _look_anew(self, result: KeepResult) -> None:
        """Read the kernel's counter after a drain: it shows what came since, or what was not deleted."""
        emptied = result.method != "follow" and result.verdict != "refused"
        self._look()
        self._sightings = Sightings(0 if emptied else self.status.lag)
        if self.status.lag is not None:
            self._sightings.saw(self.status.lag)

    def _answer(self, count: int, answer: KeepResult | ImariumError) -> None:
        """Answer those ``count`` who have waited longest."""
        for future in self._waiting[:count]:
            if not future.set_running_or_notify_cancel():
                continue  # who asked has gone
            if isinstance(answer, ImariumError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        del self._waiting[:count]

    def _turn_away(self) -> None:
        self._answer(len(self._waiting), RefusedOperation(f"{self.config.name}: the service is stopping"))

    def _keep(self) -> KeepResult:
        self._look()
        if self._keeper is None:
            self._keeper = replace(self.config, hook=self._step).keeper()
        return self._keeper.once(self.config.method, sightings=self._sightings)

    def _step(self, step: Step) -> None:
        self._beat_at = self._clock()
        self.config.hook(step)

    def _drained(self, result: KeepResult, cause: Cause, seconds: float) -> None:
        refused, was = result.verdict == "refused", self.status.state
        status = self.status
        self._failures = 0
        self.status = replace(
            status,
            state="degraded" if refused else "ok",
            reason=result.reason if refused else "",
            method=result.method,
            method_reason=result.method_reason,
            log=result.log,
            records=result.records,
            bytes=result.bytes,
            kept_records=status.kept_records + result.kept_records,
            kept_bytes=status.kept_bytes + result.kept_bytes,
            freed_records=status.freed_records + result.freed_records,
            freed_bytes=status.freed_bytes + result.freed_bytes,
            drains=status.drains + 1,
            refusals=status.refusals + refused,
            gaps=(*status.gaps, result.gap)[-_MOST_GAPS:] if result.gap else status.gaps,
            gap_count=status.gap_count + (result.gap is not None),
            last=LastDrain(now(), cause, seconds, result),
        )
        if result.gap is not None:
            self._emit("gap", result.gap.reason)
        self._emit("drained", result.reason, cause=cause, result=result, seconds=seconds)
        if was == "degraded" and not refused:
            self._emit("recovered", result.reason)

    def _failed(self, error: ImariumError, cause: Cause) -> None:
        self._failures += 1
        errors = {**self.status.errors, error.code: self.status.errors.get(error.code, 0) + 1}
        self.status = replace(self.status, state="degraded", reason=str(error), errors=errors)
        self._emit("failed", str(error), cause=cause, code=error.code)

    def _emit(
        self,
        kind: EventKind,
        detail: str,
        *,
        cause: Cause | None = None,
        code: str = "",
        result: KeepResult | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._on_event(ServiceEvent(kind, self.config.name, now(), detail, cause, code, result, seconds))
