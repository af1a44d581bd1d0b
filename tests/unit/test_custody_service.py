"""The service that goes on: when it drains, what it says of itself, and what does not end it."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.custody_files import FileKernel
from tests.unit.custody_kernel import LAYOUT, records
from tests.waiting import PATIENCE, until

from imarium.cli.keep_configured import _tidy
from imarium.cli.service_log import ServiceLog
from imarium.custody import (
    Cause,
    LogMeta,
    Retention,
    Schedule,
    Service,
    ServiceEvent,
    ServiceStatus,
    SourceConfig,
    SourceStatus,
    Store,
)
from imarium.custody.schedule import pause_after
from imarium.errors import DeviceError, MissingComponent, RefusedOperation, UsageError
from imarium.formats.records import read_records
from imarium.securityfs import ImaDirectory, ListBusy

RARELY = Schedule(interval=3600.0, records=None, poll=0.01)
OFTEN = Schedule(interval=0.02, records=None, poll=0.01)


class Host:
    """A kernel in files, its store, and the service's events."""

    def __init__(self, path: Path, name: str = "kernel") -> None:
        self.kernel = FileKernel(path / name)
        self.kernel.measure("boot_aggregate")
        self.store = path / f"{name}-store"
        self.name = name
        self.events: list[ServiceEvent] = []

    def config(self, schedule: Schedule = RARELY, **options: Any) -> SourceConfig:
        return SourceConfig(
            self.name,
            options.pop("source", self.kernel),
            self.store,
            "boot",
            registers=self.kernel.registers,
            schedule=schedule,
            **options,
        )

    def kept(self) -> list[str]:
        return [(record.name or b"").decode() for record in Store(self.store).log().records_from(0)]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@contextmanager
def running(*hosts: Host, configs: list[SourceConfig] | None = None) -> Iterator[Service]:
    service = Service(configs or [host.config() for host in hosts], on_event=hosts[0].events.append)
    service.start()
    try:
        yield service
    finally:
        assert service.stop(PATIENCE)


def only(service: Service) -> SourceStatus:
    return service.status().sources[0]


def test_it_drains_at_once_on_request_and_before_it_ends(host: Host) -> None:
    with running(host) as service:
        until(lambda: only(service).drains == 1)
        host.kernel.measure("a")
        result = service.request(timeout=PATIENCE)
        assert (result.kept_records, result.freed_records, result.verdict) == (1, 1, "proven")
        host.kernel.measure("b")
        assert host.kept() == ["boot_aggregate", "a"]
    assert host.kept() == ["boot_aggregate", "a", "b"]
    assert host.kernel.held() == b""
    causes = [event.cause for event in host.events if event.kind == "drained"]
    assert causes == [Cause.START, Cause.REQUEST, Cause.STOP]
    assert (host.kinds()[0], host.kinds()[-1]) == ("started", "stopped")
    with pytest.raises(RefusedOperation, match="stopping"):
        service.request()


def test_it_drains_at_a_number_of_records(host: Host) -> None:
    with running(host, configs=[host.config(Schedule(3600.0, records=3, poll=0.01))]) as service:
        until(lambda: only(service).drains == 1)
        host.kernel.measure("a", "b")
        until(lambda: only(service).lag == 2)
        assert only(service).drains == 1
        assert only(service).lag_bytes == pytest.approx(len(records("a", "b")), rel=0.3)
        host.kernel.measure("c")
        until(lambda: only(service).drains == 2)
        last = only(service).last
        assert last is not None and (last.cause, last.result.freed_records) == (Cause.RECORDS, 3)


def test_a_service_that_follows_is_not_hurried_by_what_it_cannot_delete(host: Host) -> None:
    schedule = Schedule(3600.0, records=2, poll=0.01)
    host.kernel.measure("a", "b", "c")
    with running(host, configs=[host.config(schedule, method="follow")]) as service:
        until(lambda: only(service).drains == 1)
        until(lambda: only(service).lag == 4)
        time.sleep(0.1)
        assert only(service).drains == 1
        host.kernel.measure("d", "e")
        until(lambda: only(service).drains == 2)
    assert host.kept() == ["boot_aggregate", "a", "b", "c", "d", "e"]
    assert host.kernel.held() == host.kernel.all()


def test_it_drains_every_interval(host: Host) -> None:
    with running(host, configs=[host.config(OFTEN)]) as service:
        for number in range(5):
            host.kernel.measure(str(number))
            until(lambda: not host.kernel.held())
        assert only(service).state == "ok"


def test_an_idle_service_opens_no_file_for_reading(host: Host) -> None:
    """IMA would measure what it opens and has changed, and the service would never be idle."""
    with running(host, configs=[host.config(OFTEN)]) as service:
        host.kernel.measure("a")
        service.request()
        service.request()
        opened: list[str] = []
        watched = [str(host.store)]

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and watched and str(arguments[0]).startswith(watched[0]):
                path, _, flags = arguments
                changes = not Path(path).is_dir() and Path(path).name != "index"
                if changes and flags & os.O_ACCMODE != os.O_WRONLY:
                    opened.append(f"{path} {flags}")

        sys.addaudithook(audit)
        try:
            drains = only(service).drains
            until(lambda: only(service).drains > drains + 5)
            host.kernel.measure("b")
            service.request()
            drains = only(service).drains
            until(lambda: only(service).drains > drains + 5)
        finally:
            watched.clear()
        assert opened == []
        assert host.kept() == ["boot_aggregate", "a", "b"]


class Failing:
    """A source that fails as long as ``error`` is set."""

    def __init__(self, kernel: FileKernel) -> None:
        self._kernel = kernel
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        if self.error is not None and name in {"hold", "snapshot", "count"}:
            raise self.error
        return getattr(self._kernel, name)


def test_it_says_what_hinders_it_and_goes_on_by_itself(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imarium.custody.schedule._FIRST_PAUSE", 0.02)
    source = Failing(host.kernel)
    with running(host, configs=[host.config(source=source)]) as service:
        until(lambda: only(service).state == "ok")
        source.error = ListBusy("process 7 (cat) has the measurement lists open")
        host.kernel.measure("a")
        with pytest.raises(ListBusy):
            service.request(timeout=PATIENCE)
        until(lambda: only(service).errors.get("list_busy", 0) >= 2)
        assert (only(service).state, service.status().state) == ("degraded", "degraded")
        assert "process 7 (cat)" in only(service).reason
        assert host.kernel.held() == records("a")
        source.error = None
        until(lambda: only(service).state == "ok")
        assert only(service).reason == ""
        assert host.kept() == ["boot_aggregate", "a"]
    assert host.kinds()[-4:] == ["drained", "recovered", "drained", "stopped"]


def test_a_source_that_cannot_be_looked_at_is_degraded_and_goes_on(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imarium.custody.schedule._FIRST_PAUSE", 0.02)
    source = ImaDirectory(tmp_path / ("x" * 300), patience=0.0)  # no name of a file is as long
    with running(host, configs=[host.config(source=source)]) as service:
        until(lambda: only(service).errors.get("list_unavailable", 0) >= 2)
        service.check()
        assert only(service).state == "degraded"
        source.path = tmp_path / "short"
        source.path.mkdir()
        (source.path / "binary_runtime_measurements").write_bytes(records("boot_aggregate"))
        (source.path / "runtime_measurements_count").write_text("1\n")
        until(lambda: only(service).drains)
        assert host.kept() == ["boot_aggregate"]
    assert not list(tmp_path.glob("x*"))


def test_a_refusal_is_degraded_and_not_hurried(host: Host) -> None:
    with running(host, configs=[host.config(Schedule(3600.0, records=1, poll=0.01))]) as service:
        until(lambda: only(service).drains == 1)
        with FileKernel(host.kernel.directory, patience=PATIENCE).hold() as held:  # before the service sees it
            end = len(held.all()) + len(records("lost"))
            held.change(freed=end, staged=end)
            held.measure("lost")
        result = service.request(timeout=PATIENCE)
        assert result.verdict == "refused"
        host.kernel.measure("a")
        assert service.request(timeout=PATIENCE).kept_records == 1
        drains = only(service).drains
        time.sleep(0.1)
        assert (only(service).drains, only(service).state) == (drains, "degraded")
        assert only(service).refusals >= 2
    assert host.kernel.held() == records("a")


def test_sources_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one, two = Host(tmp_path, "one"), Host(tmp_path, "two")
    go = threading.Event()
    configs = [one.config(hook=lambda _step: go.wait(PATIENCE)), two.config(OFTEN)]
    with running(one, two, configs=configs) as service:
        until(lambda: service.status().sources[1].drains > 3)
        assert service.status().sources[0].drains == 0
        assert service.status().state == "starting"
        assert service.alive(60.0)
        assert not service.alive(0.0)
        with pytest.raises(RefusedOperation, match="not drained within"):
            service.request("one", timeout=0.05)
        go.set()
        assert service.request("one", timeout=PATIENCE).verdict == "proven"
    assert (one.kept(), two.kept()) == (["boot_aggregate"], ["boot_aggregate"])


def test_two_services_with_a_store_each_share_a_source_and_none_is_ended(host: Host, tmp_path: Path) -> None:
    """Whoever comes first gets the records; the other sees that some are missing, and deletes nothing any more."""
    names = [str(number) for number in range(60)]
    configs = [
        SourceConfig(
            name,
            FileKernel(host.kernel.directory, patience=PATIENCE),
            tmp_path / name,
            "boot",
            registers=FileKernel(host.kernel.directory).registers,
            schedule=OFTEN,
        )
        for name in ("first", "second")
    ]
    service = Service(configs)
    service.start()
    try:
        for name in names:
            host.kernel.measure(name)
            time.sleep(0.005)
    finally:
        assert service.stop(PATIENCE)
    found: set[str] = set()
    for config in configs:
        store = Store(config.store)
        for number in store.numbers:
            found |= {(record.name or b"").decode() for record in store.log(number).records_from(0)}
    held = {(record.name or b"").decode() for record in read_records([host.kernel.held()], LAYOUT)}
    assert found | held == {"boot_aggregate", *names}


def test_two_services_with_one_store_take_turns(host: Host) -> None:
    configs = [host.config(OFTEN, source=FileKernel(host.kernel.directory, patience=PATIENCE)) for _ in range(2)]
    services = [Service([config]) for config in configs]
    for service in services:
        service.start()
    names = [str(number) for number in range(40)]
    try:
        for name in names:
            host.kernel.measure(name)
            time.sleep(0.005)
    finally:
        assert all(service.stop(PATIENCE) for service in services)
    assert host.kept() == ["boot_aggregate", *names]
    assert host.kernel.held() == b""
    assert all(not only(service).errors or set(only(service).errors) == {"store_busy"} for service in services)


def test_a_thread_that_breaks_off_is_seen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)

    def fault(_step: object) -> None:
        raise ZeroDivisionError

    service = Service([host.config(hook=fault)])
    service.start()
    until(lambda: only(service).state == "stopped")
    with pytest.raises(DeviceError, match="no longer kept"):
        service.check()
    with pytest.raises(RefusedOperation):
        service.request()
    assert service.stop(1.0)


def test_closed_logs_that_cannot_be_seen_to_are_counted_and_hinder_nothing(host: Host) -> None:
    store = Store(host.store, create=True)
    for number in range(2):
        store.begin(LogMeta("little", "now", f"boot{number}", "reset", "test"))
    journal = store.directory_of(0) / "journal"
    good = journal.read_bytes()
    config = host.config()
    service = Service([config])
    log = ServiceLog("json", stream=io.StringIO())

    def tidied() -> tuple[int, str]:
        _tidy(Retention(), [config], log, service, lambda: False)
        return only(service).retention_failures, only(service).retention_reason

    assert tidied() == (0, "")
    journal.write_bytes(b"{}\n{}\n")
    for wanted in (1, 2):
        failures, reason = tidied()
        assert failures == wanted
        assert "journal" in reason
    document = only(service).to_document()
    assert document["retention"] == {"failures": 2, "reason": reason}
    assert only(service).state == "starting"
    journal.write_bytes(good)
    assert tidied() == (2, "")
    with pytest.raises(UsageError, match="no source 'nowhere'"):
        service.retained("nowhere")


def test_documents_have_everything(host: Host) -> None:
    with running(host) as service:
        service.request()
        document = service.status().to_document()
    source = document["sources"][0]  # type: ignore[index]
    assert source["total"] == {"records": 1, "bytes": len(records("boot_aggregate"))}
    assert (source["state"], source["last_drain"]["verdict"], source["gaps"]["count"]) == ("ok", "proven", 0)
    assert {"event", "source", "at", "detail", "cause", "seconds", "result"} <= host.events[1].to_document().keys()
    assert ServiceStatus("now", ()).state == "ok"


def test_what_makes_no_sense_is_refused(host: Host) -> None:
    with pytest.raises(UsageError, match="no source to keep"):
        Service([])
    with pytest.raises(UsageError, match="same name"):
        Service([host.config(), host.config()])
    with pytest.raises(UsageError, match="no source 'nowhere'"):
        Service([host.config()]).submit("nowhere")
    for options in ({"interval": 0.0}, {"poll": 0.0}, {"poll": 61.0}, {"records": 0}, {"bytes": 0}):
        with pytest.raises(UsageError):
            Schedule(**options)
    with pytest.raises(MissingComponent):
        host.store.touch()
        host.config().keeper()


def test_a_schedule_names_its_cause() -> None:
    schedule = Schedule(60.0, records=10, bytes=1000)
    assert schedule.due(0.0, 9, 999) is None
    assert schedule.due(0.0, 10, 0) is Cause.RECORDS
    assert schedule.due(0.0, 9, 1000) is Cause.BYTES
    assert schedule.due(60.0, 0, 0) is Cause.INTERVAL
    assert [pause_after(failures, 40.0) for failures in (1, 2, 3, 7, 10**9)] == [1.0, 2.0, 4.0, 40.0, 40.0]
