"""The service's state as Prometheus metrics: text for whoever scrapes, or a file for the node exporter."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imarium import __version__, durable
from imarium.custody.status import ServiceStatus, SourceStatus

__all__ = ["METRICS_TYPE", "metrics_text", "write_metrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of :func:`metrics_text`."""

_FILE_MODE = 0o644  # the node exporter is another user
_STATES = ("starting", "ok", "degraded", "stopped")

_Number = Callable[[SourceStatus], float | None]


def _missing(source: SourceStatus) -> float:
    return sum(gap.missing or 0 for gap in source.gaps)


def _last_drain(source: SourceStatus) -> float | None:
    return _timestamp(source.last.at) if source.last else None


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


_COUNTERS: tuple[tuple[str, str, _Number], ...] = (
    ("kept_records", "Records kept since the service started.", lambda source: source.kept_records),
    ("kept_bytes", "Bytes of the records kept since the service started.", lambda source: source.kept_bytes),
    (
        "freed_records",
        "Records deleted from the kernel since the service started.",
        lambda source: source.freed_records,
    ),
    ("freed_bytes", "Bytes of the records deleted from the kernel.", lambda source: source.freed_bytes),
    ("drains", "Drains that came to their end, refused ones too.", lambda source: source.drains),
    (
        "refusals",
        "Drains after which nothing was deleted, as the registers did not fit.",
        lambda source: source.refusals,
    ),
    ("gaps", "Times that records were found missing.", lambda source: source.gap_count),
    (
        "retention_failures",
        "Times that closed logs could not be compressed or deleted.",
        lambda source: source.retention_failures,
    ),
)
_GAUGES: tuple[tuple[str, str, _Number], ...] = (
    ("log_number", "Number of the log that is being kept.", lambda source: source.log),
    ("log_records", "Records in the log that is being kept.", lambda source: source.records),
    ("log_bytes", "Bytes in the log that is being kept.", lambda source: source.bytes),
    ("lag_records", "Records in the kernel's list when last looked at.", lambda source: source.lag),
    ("lag_bytes", "Their bytes, estimated.", lambda source: source.lag_bytes),
    ("missing_records", "Records known to be missing in the newest gaps.", _missing),
    ("last_drain_timestamp_seconds", "When the last drain came to its end.", _last_drain),
    (
        "last_drain_duration_seconds",
        "How long the last drain took.",
        lambda source: source.last.seconds if source.last else None,
    ),
)


def metrics_text(status: ServiceStatus) -> bytes:
    """All metrics in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Service(status))
    return generate_latest(registry)


def write_metrics(status: ServiceStatus, path: Path) -> None:
    """Replace the file by one with all metrics, which others may read. Raises MissingComponent."""
    durable.replace_file(path, metrics_text(status), mode=_FILE_MODE)


class _Service(Collector):
    """Collects one status."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """The metrics of all sources."""
        sources = self._status.sources
        build = GaugeMetricFamily("imarium_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily(
            "imarium_start_time_seconds", "When the service was started.", value=_timestamp(self._status.started)
        )
        for kind, families in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for name, text, number in families:
                family = kind(f"imarium_{name}", text, labels=["source"])
                for source in sources:
                    value = number(source)
                    if value is not None:
                        family.add_metric([source.name], value)
                yield family
        yield _errors(sources)
        yield _states(sources)


def _errors(sources: Iterable[SourceStatus]) -> Metric:
    family = CounterMetricFamily("imarium_errors", "Failed drains by the error's code.", labels=["source", "code"])
    for source in sources:
        for code, count in sorted(source.errors.items()):
            family.add_metric([source.name, code], count)
    return family


def _states(sources: Iterable[SourceStatus]) -> Metric:
    family = GaugeMetricFamily("imarium_source_state", "1 for the state a source is in.", labels=["source", "state"])
    for source in sources:
        for state in _STATES:
            family.add_metric([source.name, state], source.state == state)
    return family
