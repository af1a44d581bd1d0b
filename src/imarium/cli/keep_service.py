"""``imarium keep`` that goes on: the service, and all that is around it, until a signal says to end."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imarium.cli.service_log import ServiceLog
from imarium.custody import Service, ServiceStatus, SourceConfig, SourceStatus
from imarium.custody.notify import Notifier
from imarium.errors import DeviceError, MissingComponent

__all__ = ["Host", "MetricsFile", "Serving", "Tidy"]

Tidy = Callable[[Service, Callable[[], bool]], None]
"""Sees to the closed logs of a service's sources, and tells the service; what it is given last says whether to end."""

_TICK = 1.0
_FIRST_TIDYING, _TIDYING = 30.0, 3600.0


class Serving(Protocol):
    """What answers others beside the service; :class:`imarium.web.Server` is one."""

    def bind(self) -> Sequence[object]:
        """Begin to listen; where."""

    def start(self) -> None:
        """Serve in a thread."""

    def stop(self) -> None:
        """End."""

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """A file with metrics, written every ``interval`` seconds by ``write``, which raises MissingComponent."""

    path: Path
    interval: float
    write: Callable[[ServiceStatus, Path], None]


class Host:
    """Runs a service of ``sources``. ``serve`` makes what answers others, None where nobody is answered.

    ``tidy`` is called every hour, in a thread of its own.
    """

    def __init__(
        self,
        sources: Sequence[SourceConfig],
        log: ServiceLog,
        *,
        metrics: MetricsFile | None = None,
        serve: Callable[[Service], Serving] | None = None,
        tidy: Tidy | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._service = Service(sources, on_event=log.event)
        self._log = log
        self._metrics = metrics
        self._serving = serve(self._service) if serve else None
        self._notifier = notifier or Notifier.from_environment()
        self._tidy = tidy
        self._stop = threading.Event()
        self._tidying = threading.Thread(target=self._keep_tidy, name="tidy")
        self._said = ""
        self._written_at = float("-inf")
        self._metrics_failed = False

    def run(self) -> None:
        """Keep until SIGTERM or SIGINT, then drain once more. Raises DeviceError if a source or the API breaks off."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stop.set())
        if self._serving is not None:
            places = self._serving.bind()
            self._log.say("info", "listening", places=[str(place) for place in places])
        self._service.start()
        self._tidying.start()
        try:
            if self._serving is not None:
                self._serving.start()
            self._notifier.ready(_summary(self._service.status()))
            while not self._stop.wait(self._tick):
                self._look()
        finally:
            self._end()

    @property
    def _tick(self) -> float:
        """Seconds between two looks at what goes on: at least two for each interval of the watchdog."""
        return min(_TICK, (self._notifier.watchdog or 2 * _TICK) / 2)

    def _look(self) -> None:
        self._service.check()
        if self._serving is not None and not self._serving.is_alive:
            raise DeviceError("the API has ended by itself; see the error before this, and start again")
        if self._notifier.watchdog is not None and self._service.alive(self._notifier.watchdog):
            self._notifier.alive()
        status = self._service.status()
        summary = _summary(status)
        if summary != self._said:
            self._said = summary
            self._notifier.status(summary)
        if self._metrics is not None and time.monotonic() - self._written_at >= self._metrics.interval:
            self._write_metrics(self._metrics, status)

    def _write_metrics(self, metrics: MetricsFile, status: ServiceStatus) -> None:
        """Write the metrics; a failure is said once, and no reason to stop keeping records."""
        self._written_at = time.monotonic()
        try:
            metrics.write(status, metrics.path)
        except MissingComponent as error:
            if not self._metrics_failed:
                self._log.say("error", "metrics_failed", detail=str(error))
            self._metrics_failed = True
        else:
            self._metrics_failed = False

    def _keep_tidy(self) -> None:
        pause = _FIRST_TIDYING
        while self._tidy is not None and not self._stop.wait(pause):
            self._tidy(self._service, self._stop.is_set)
            pause = _TIDYING

    def _end(self) -> None:
        self._stop.set()
        self._notifier.stopping("draining once more")
        if self._serving is not None:
            self._serving.stop()
        self._service.stop()
        self._tidying.join()
        if self._metrics is not None:
            self._write_metrics(self._metrics, self._service.status())


def _summary(status: ServiceStatus) -> str:
    """What the service manager shows: one line."""
    return f"{status.state}: " + "; ".join(map(_source_summary, status.sources))


def _source_summary(source: SourceStatus) -> str:
    said = f"{source.name}: {source.records} records kept"
    if source.log is not None:
        said += f" in log {source.log:04}"
    if source.lag is not None:
        said += f", {source.lag} in the kernel"
    return f"{said}, {source.reason}" if source.reason else said
