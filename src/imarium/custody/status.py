"""What the service says of itself: immutable values, whole at every moment, for people, metrics and the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from imarium.custody.gap import Gap
from imarium.custody.result import KeepResult
from imarium.custody.schedule import Cause
from imarium.custody.source import Method

__all__ = ["EventKind", "LastDrain", "OnEvent", "ServiceEvent", "ServiceStatus", "SourceState", "SourceStatus"]

SourceState = Literal["starting", "ok", "degraded", "stopped"]
"""``degraded``: the last drain failed, or was refused; nothing is lost, and it is tried again."""


EventKind = Literal["started", "stopped", "drained", "failed", "recovered", "gap"]


@dataclass(frozen=True, slots=True)
class LastDrain:
    """A drain that came to its end: when, why, in how many seconds, and its result."""

    at: str
    cause: Cause
    seconds: float
    result: KeepResult

    def to_document(self) -> dict[str, object]:
        """The drain as a JSON document."""
        seconds = round(self.seconds, 6)
        return {"at": self.at, "cause": self.cause.value, "seconds": seconds, **self.result.to_document()}


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source. Totals are since the service was started; ``records`` and ``bytes`` are the size of the current log.

    ``lag`` is how many records the kernel's current list had when last looked at, None if that is not known;
    ``lag_bytes`` is an estimate. ``errors`` counts failed drains by the error's code, ``refusals`` those after which
    nothing was deleted by judgement. ``gaps`` has the newest gaps, ``gap_count`` is how many there were. ``reason`` is
    one line: why the state is not ok. ``retention_failures`` counts how often closed logs could not be compressed or
    deleted, which hinders no drain; ``retention_reason`` is why the last time, empty if it succeeded.
    """

    name: str
    store: str
    state: SourceState = "starting"
    reason: str = ""
    method: Method | None = None
    method_reason: str = ""
    log: int | None = None
    records: int = 0
    bytes: int = 0
    kept_records: int = 0
    kept_bytes: int = 0
    freed_records: int = 0
    freed_bytes: int = 0
    drains: int = 0
    refusals: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    gap_count: int = 0
    lag: int | None = None
    lag_bytes: int | None = None
    last: LastDrain | None = None
    retention_failures: int = 0
    retention_reason: str = ""

    def to_document(self) -> dict[str, object]:
        """The status as a JSON document."""
        return {
            "name": self.name,
            "store": self.store,
            "state": self.state,
            "reason": self.reason,
            "method": self.method,
            "method_reason": self.method_reason,
            "log": self.log,
            "total": {"records": self.records, "bytes": self.bytes},
            "kept": {"records": self.kept_records, "bytes": self.kept_bytes},
            "freed": {"records": self.freed_records, "bytes": self.freed_bytes},
            "drains": self.drains,
            "refusals": self.refusals,
            "errors": dict(self.errors),
            "gaps": {"count": self.gap_count, "newest": [gap.to_document() for gap in self.gaps]},
            "lag": {"records": self.lag, "bytes_estimated": self.lag_bytes},
            "last_drain": self.last.to_document() if self.last else None,
            "retention": {"failures": self.retention_failures, "reason": self.retention_reason},
        }


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service: when it was started, and each of its sources."""

    started: str
    sources: tuple[SourceStatus, ...]

    @property
    def state(self) -> SourceState:
        """The worst of the sources' states."""
        states = {source.state for source in self.sources}
        worst: tuple[SourceState, ...] = ("degraded", "starting", "stopped")
        return next((state for state in worst if state in states), "ok")

    def to_document(self) -> dict[str, object]:
        """The status as a JSON document."""
        sources = [source.to_document() for source in self.sources]
        return {"state": self.state, "started": self.started, "sources": sources}


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """Something that happened, for logs and metrics.

    ``kind``: ``started`` and ``stopped`` of a source; ``drained`` with the ``result``, also if it was refused;
    ``failed`` with the error's ``code``; ``recovered`` when a drain is good again; ``gap``. ``detail`` is one line.
    """

    kind: EventKind
    source: str
    at: str
    detail: str
    cause: Cause | None = None
    code: str = ""
    result: KeepResult | None = None
    seconds: float = 0.0

    def to_document(self) -> dict[str, object]:
        """The event as a JSON document; without what it does not have."""
        document: dict[str, object] = {
            "event": self.kind,
            "source": self.source,
            "at": self.at,
            "detail": self.detail,
        }
        if self.cause is not None:
            document["cause"] = self.cause.value
        if self.code:
            document["code"] = self.code
        if self.result is not None:
            document |= {"seconds": round(self.seconds, 6), "result": self.result.to_document()}
        return document


OnEvent = Callable[[ServiceEvent], None]
"""Called for each event, in the thread of its source; it must not take long."""
