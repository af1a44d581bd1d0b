"""Metrics of a status, read back as Prometheus reads them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imarium.custody import Cause, Gap, KeepResult, LastDrain, ServiceStatus, SourceStatus
from imarium.custody.metrics import metrics_text, write_metrics

AT = "2026-01-02T03:04:05.678+00:00"
RESULT = KeepResult("prompt", "", 3, 5, 500, 4, 400, 50, 5000, "proven", (), "")
SOURCE = SourceStatus(
    "kernel",
    "/var/lib/imarium",
    state="degraded",
    log=3,
    records=50,
    bytes=5000,
    kept_records=5,
    kept_bytes=500,
    freed_records=4,
    freed_bytes=400,
    drains=7,
    refusals=1,
    errors={"list_busy": 2, "missing": 1},
    gaps=(Gap(AT, AT, 2, 8, "x"), Gap(AT, AT, 3, None, "y")),
    gap_count=2,
    retention_failures=9,
    lag=6,
    lag_bytes=600,
    last=LastDrain(AT, Cause.INTERVAL, 0.25, RESULT),
)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Values by name and the values of the labels, in the order of the labels' names."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            found[(sample.name, *(value for _, value in sorted(sample.labels.items())))] = sample.value
    return found


def test_all_that_a_status_says_is_there() -> None:
    found = samples(metrics_text(ServiceStatus(AT, (SOURCE,))))
    for name, value in {
        "kept_records_total": 5,
        "kept_bytes_total": 500,
        "freed_records_total": 4,
        "freed_bytes_total": 400,
        "drains_total": 7,
        "refusals_total": 1,
        "gaps_total": 2,
        "retention_failures_total": 9,
        "missing_records": 8,
        "log_number": 3,
        "log_records": 50,
        "log_bytes": 5000,
        "lag_records": 6,
        "lag_bytes": 600,
        "last_drain_duration_seconds": 0.25,
        "last_drain_timestamp_seconds": 1767323045.678,
    }.items():
        assert found[(f"imarium_{name}", "kernel")] == value, name
    assert found[("imarium_errors_total", "list_busy", "kernel")] == 2
    assert found[("imarium_errors_total", "missing", "kernel")] == 1
    states = {labels[2]: value for labels, value in found.items() if labels[0] == "imarium_source_state"}
    assert states == {"starting": 0, "ok": 0, "degraded": 1, "stopped": 0}
    assert found[("imarium_start_time_seconds",)] == 1767323045.678


def test_what_is_not_known_is_left_out() -> None:
    found = samples(metrics_text(ServiceStatus(AT, (SourceStatus("new", "/s"),))))
    assert ("imarium_lag_records", "new") not in found
    assert ("imarium_last_drain_timestamp_seconds", "new") not in found
    assert found[("imarium_kept_records_total", "new")] == 0


def test_each_source_has_its_own() -> None:
    other = replace(SOURCE, name="engine", kept_records=11, errors={})
    found = samples(metrics_text(ServiceStatus(AT, (SOURCE, other))))
    assert found[("imarium_kept_records_total", "engine")] == 11
    assert ("imarium_errors_total", "missing", "engine") not in found


def test_the_file_is_replaced_whole_and_others_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imarium.prom"
    replace, modes = Path.replace, []

    def seen(self: Path, target: Path) -> Path:
        modes.append(self.stat().st_mode & 0o777)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    before = os.umask(0o077)
    try:
        write_metrics(ServiceStatus(AT, (SOURCE,)), path)
        write_metrics(ServiceStatus(AT, ()), path)
    finally:
        os.umask(before)
    assert path.read_bytes() == metrics_text(ServiceStatus(AT, ()))
    assert path.stat().st_mode & 0o777 == 0o644
    assert modes == [0o644, 0o644], "at every moment"
    assert list(tmp_path.iterdir()) == [path]
