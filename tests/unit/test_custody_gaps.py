"""Others on the same lists: what they take is noticed, counted, dated and reported, and custody goes on."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.custody_files import FileKernel
from tests.unit.custody_kernel import LAYOUT, Kernel, counting, records
from tests.waiting import PATIENCE, until

from imarium.custody import Event, Gap, Keeper, KeepResult, Machine, Method, Schedule, Service, SourceConfig, Store
from imarium.custody.counted import total_counted
from imarium.custody.gap import Sightings
from imarium.custody.proof import no_registers
from imarium.formats.records import read_records
from imarium.securityfs import holders
from imarium.securityfs.holders import described

SEEN = ("a", "b", "c", "d", "e", "f", "g")


class Host:
    """A kernel, its store, and what its counter was seen to show."""

    def __init__(self, path: Path, *, tpm: bool) -> None:
        self.kernel = Kernel()
        self.kernel.boot()
        self.store = path / "store"
        self.tpm = tpm
        self.machine = Machine("first", reset_count=5)
        self.sightings = Sightings()

    def keep(self, method: Method = "prompt") -> KeepResult:
        registers = self.kernel.registers if self.tpm else no_registers
        store = Store(self.store, create=True)
        keeper = Keeper(
            store, self.kernel, boot_id="unused", registers=registers, machine=lambda: replace(self.machine)
        )
        result = keeper.once(method, sightings=self.sightings)
        keeper.close()
        emptied = result.method != "follow" and result.verdict != "refused"
        self.sightings = Sightings(0 if emptied else self.kernel.count())
        self.look()
        return result

    def look(self) -> None:
        self.sightings.saw(self.kernel.count())

    def steal(self, count: int) -> None:
        self.kernel.delete(count)
        self.kernel.freed.pop()

    def events(self, number: int) -> list[Event]:
        return [entry.event for entry in Store(self.store).log(number).journal.entries]

    def names(self, number: int) -> list[str]:
        return [(record.name or b"").decode() for record in Store(self.store).log(number).records_from(0)]


@pytest.fixture(params=[True, False], ids=["tpm", "no-tpm"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    host = Host(tmp_path, tpm=request.param)
    assert host.keep().verdict != "refused"
    return host


def gap_of(result: KeepResult) -> Gap:
    assert result.gap is not None
    return result.gap


@pytest.mark.parametrize("stolen", [1, 3, 7])
@pytest.mark.parametrize("later", [(), ("x", "y")], ids=["no-more", "more"])
def test_what_others_deleted_is_counted_and_dated(host: Host, stolen: int, later: tuple[str, ...]) -> None:
    host.kernel.measure(*SEEN)
    host.look()
    since = host.sightings.since
    host.steal(stolen)
    host.look()
    host.kernel.measure(*later)
    host.look()
    result = host.keep()
    gap = gap_of(result)
    assert gap.missing == stolen
    assert (result.verdict, gap.since) == ("refused", since)
    assert gap.at >= gap.since
    assert f"at least {gap.missing} records" in gap.reason
    left = [*SEEN[stolen:], *later]
    assert gap.log == (1 if left else None)
    if left:
        assert host.names(1) == left
        assert Store(host.store).log(1).meta.start == "unknown"
        assert [e.missing for e in Store(host.store).log(1).journal.entries if e.event is Event.GAP] == [gap.missing]
    assert host.events(0).count(Event.GAP) == 1
    assert host.kernel.current_list == records(*left), "nothing is deleted behind a gap"


def test_what_came_between_two_looks_is_counted_too(host: Host) -> None:
    host.kernel.measure(*SEEN)
    host.look()
    host.steal(7)
    host.look()
    host.kernel.measure("x", "y")
    host.look()
    host.steal(1)
    host.kernel.measure("z")
    assert gap_of(host.keep()).missing == 7
    assert host.names(1) == ["y", "z"]


def test_a_gap_is_reported_once_and_the_log_behind_it_goes_on(host: Host) -> None:
    host.kernel.measure(*SEEN)
    host.look()
    host.steal(7)
    assert gap_of(host.keep()).log is None
    assert host.keep().gap is None
    host.kernel.measure("x")
    result = host.keep()
    assert (result.verdict, result.log) == ("refused", 1)
    host.kernel.measure("y")
    result = host.keep()
    assert (result.gap, result.log, result.freed_records) == (None, 1, 0)
    assert (host.names(0), host.names(1)) == (["boot_aggregate"], ["x", "y"])
    host.kernel.boot()
    host.machine = Machine("second", reset_count=6)
    result = host.keep()
    assert (result.log, result.freed_records, result.verdict != "refused") == (2, 1, True)


def test_others_that_stage_only_are_no_gap(host: Host) -> None:
    host.kernel.measure(*SEEN)
    host.look()
    host.kernel.stage()
    host.look()
    host.kernel.measure("x")
    result = host.keep()
    assert (result.gap, result.kept_records, result.freed_records) == (None, 8, 8)
    assert host.names(0) == ["boot_aggregate", *SEEN, "x"]


def test_what_was_kept_before_others_deleted_it_is_no_gap(host: Host) -> None:
    host.kernel.measure(*SEEN)
    host.keep("follow")
    host.steal(4)
    host.kernel.measure("x")
    result = host.keep("follow")
    assert (result.verdict != "refused", result.gap) == (True, None)
    assert host.names(0) == ["boot_aggregate", *SEEN, "x"]


def test_without_a_count_replay_says_that_records_are_missing(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=True)
    host.keep()
    host.sightings = Sightings()
    host.kernel.measure("unseen")
    host.steal(1)
    host.kernel.measure("x")
    gap = gap_of(host.keep())
    assert (gap.missing, gap.log) == (None, 1)
    assert "records are missing" in gap.reason


@pytest.mark.parametrize("later", [0, 2])
def test_the_kernels_own_count_at_a_kexec_gives_the_size(host: Host, later: int) -> None:
    host.kernel.measure("a")
    host.keep()
    host.kernel.measure("lost", "lost too", "and this")
    host.look()
    host.steal(3)
    host.look()
    host.kernel.measure(*map(str, range(later + 1)))
    host.look()
    host.keep()
    total = 2 + 3 + later + 1
    host.kernel.add(counting(total))
    result = host.keep()
    gap = gap_of(result)
    assert (gap.missing, gap.log) == (3, 1)
    assert "3 records are missing between log 0000 and this one, by the kernel's count" in gap.reason
    counted = [entry for entry in Store(host.store).log(1).journal.entries if entry.event is Event.COUNTED]
    assert [entry.missing for entry in counted] == [3]
    host.kernel.measure("x")
    result = host.keep()
    assert (result.log, result.gap) == (1, None)


def test_only_the_kernels_own_words_count() -> None:
    def total(data: bytes) -> int | None:
        return total_counted(next(iter(read_records([data], LAYOUT))))

    assert total(counting(7)) == total(counting(7, "kexec_execute")) == 7
    assert total(counting(7, "kexec_other")) is None
    assert total(records("ima_runtime_measurements_count=7;")) is None


def test_what_was_there_at_the_first_look_was_perhaps_kept_before(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=False)
    host.kernel.measure(*SEEN)
    host.keep("follow")
    host.sightings = Sightings()
    host.look()
    assert (host.sightings.arrived, host.keep("follow").gap) == (0, None)


OFTEN = Schedule(interval=3600.0, records=None, poll=0.005)


@pytest.mark.parametrize("how", ["A and D", "N"])
def test_the_service_sees_what_others_take_and_goes_on(tmp_path: Path, how: str) -> None:
    kernel = FileKernel(tmp_path / "kernel", patience=PATIENCE)
    kernel.measure("boot_aggregate")
    config = SourceConfig(
        "kernel", kernel, tmp_path / "store", "boot", registers=kernel.registers, schedule=OFTEN, patience=PATIENCE
    )
    kinds: list[str] = []
    service = Service([config], on_event=lambda event: kinds.append(event.kind))
    service.start()
    try:
        status = service.request(timeout=PATIENCE)
        assert status.verdict == "proven"
        kernel.measure(*SEEN)
        until(lambda: service.status().sources[0].lag == 7)
        other = FileKernel(tmp_path / "kernel", patience=PATIENCE)
        with other.hold() as held:
            if how == "N":
                held.delete(5)
            else:
                held.stage()
                held.delete_staged()
        taken = 5 if how == "N" else 7
        until(lambda: service.status().sources[0].lag == 7 - taken)
        kernel.measure("x")
        result = service.request(timeout=PATIENCE)
        assert (result.verdict, gap_of(result).missing) == ("refused", taken)
        source = service.status().sources[0]
        assert (source.gap_count, source.state, source.gaps[0].log) == (1, "degraded", 1)
        kernel.measure("y")
        assert service.request(timeout=PATIENCE).kept_records == 1
    finally:
        assert service.stop(PATIENCE)
    assert kinds.count("gap") == 1
    kept = [(r.name or b"").decode() for r in Store(config.store).log(1).records_from(0)]
    assert kept == [*SEEN[taken:], "x", "y"]
    assert [(r.name or b"").decode() for r in read_records([kernel.held()], LAYOUT)] == kept


READER = "import sys, time; file = open(sys.argv[1], 'rb'); print('open', flush=True); time.sleep(60)"


def test_who_has_the_lists_open_is_found(tmp_path: Path) -> None:
    directory = tmp_path / "ima"
    directory.mkdir()
    (directory / "binary_runtime_measurements").touch()
    assert holders(directory) == ()
    assert described(()) == "someone else"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(directory / "binary_runtime_measurements")], stdout=subprocess.PIPE
    )
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        found = holders(directory)
        assert [(holder.pid, holder.file) for holder in found] == [(reader.pid, "binary_runtime_measurements")]
        assert described(found) == f"process {reader.pid} ({found[0].program})"
        assert holders(tmp_path) == ()
        assert holders(directory, seconds=-1.0) == ()
    finally:
        reader.kill()
        reader.communicate()
    many = described(found * 6)
    assert many.endswith(" and others")
    assert many.count("process") == 4
    with (directory / "binary_runtime_measurements").open() as file:
        assert os.fstat(file.fileno()).st_size == 0
        assert holders(directory) == (), "this process is not someone else"
