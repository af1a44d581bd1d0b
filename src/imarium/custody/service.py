"""The long-running service: several sources, each kept in its own store.

Each source has a thread, so that one that has to wait holds no other up; that thread alone opens the source's files to
stage and delete. Whoever hosts the service (a command, an HTTP application) calls it from any thread.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, replace

from imarium.custody.journal import now
from imarium.custody.result import KeepResult
from imarium.custody.status import OnEvent, ServiceEvent, ServiceStatus, SourceStatus
from imarium.custody.worker import SourceConfig, Worker
from imarium.errors import DeviceError, RefusedOperation, UsageError

__all__ = ["Service", "no_events"]


def no_events(_event: ServiceEvent) -> None:
    """Do nothing at any event."""


@dataclass(frozen=True, slots=True)
class _Retention:
    """How often closed logs could not be seen to, and why the last time; empty if they could."""

    failures: int = 0
    reason: str = ""


class Service:
    """Keeps ``sources`` until it is stopped. ``on_event`` is called in the sources' threads.

    Raises UsageError for no source, or for two of one name, or two with one store.
    """

    def __init__(self, sources: Sequence[SourceConfig], *, on_event: OnEvent = no_events) -> None:
        if not sources:
            raise UsageError("there is no source to keep")
        for what in ("name", "store"):
            values = [getattr(source, what) for source in sources]
            if len(set(values)) != len(values):
                raise UsageError(f"two sources have the same {what}; each needs its own")
        self._started = now()
        self._workers = {source.name: Worker(source, on_event) for source in sources}
        self._retention = dict.fromkeys(self._workers, _Retention())
        self._threads = {
            name: threading.Thread(target=worker.run, name=f"keep {name}") for name, worker in self._workers.items()
        }

    def start(self) -> None:
        """Begin to keep. Once only."""
        for thread in self._threads.values():
            thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Drain each source once more and end; whether all have ended after ``timeout`` seconds."""
        for worker in self._workers.values():
            worker.stop()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads.values():
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads.values())

    def check(self) -> None:
        """Raises DeviceError if a source is no longer kept although the service was not stopped."""
        ended = [name for name, worker in self._workers.items() if worker.broke_off]
        if ended:
            raise DeviceError(f"{', '.join(ended)}: no longer kept; see the error before this, and start again")

    def status(self) -> ServiceStatus:
        """What it does, as of now; costs nothing."""
        return ServiceStatus(self._started, tuple(map(self._status, self._workers)))

    def retained(self, name: str, failure: str = "") -> None:
        """Note for the status that the source's closed logs were seen to; ``failure`` is what hindered it, if so.

        For one thread, which may be any. Raises UsageError for an unknown name.
        """
        self._worker(name)
        known = self._retention[name]
        self._retention[name] = _Retention(known.failures + bool(failure), failure)

    def alive(self, within: float) -> bool:
        """Whether each source's thread has shown in the last ``within`` seconds that it lives."""
        return all(worker.quiet_for() <= within for worker in self._workers.values())

    def submit(self, name: str | None = None) -> Future[KeepResult]:
        """Ask for a drain of one source, the only one unless named. Raises UsageError for an unknown name.

        The future raises what the drain raised, and RefusedOperation once the service is stopping.
        """
        if name is None and len(self._workers) == 1:
            name = next(iter(self._workers))
        return self._worker(name).request()

    def request(self, name: str | None = None, *, timeout: float | None = None) -> KeepResult:
        """Drain one source now, and wait for the result. Raises as :meth:`submit` and its future."""
        try:
            return self.submit(name).result(timeout)
        except NotInTime:
            raise RefusedOperation(f"not drained within {timeout} s; see the status, and ask again") from None

    def _status(self, name: str) -> SourceStatus:
        known = self._retention[name]
        status = self._workers[name].status
        return replace(status, retention_failures=known.failures, retention_reason=known.reason)

    def _worker(self, name: str | None) -> Worker:
        if name not in self._workers:
            raise UsageError(f"there is no source {name!r}; there are {', '.join(self._workers)}")
        return self._workers[name]
