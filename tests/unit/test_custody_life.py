"""Reboots, kexecs, snapshots and clones told apart; trimming; a kexec under way; a journal that stays short."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.custody_files import FileKernel
from tests.unit.custody_kernel import LAYOUT, Kernel, records

from imarium.chain import ChainState
from imarium.custody import (
    Entry,
    Event,
    Hook,
    Keeper,
    KeepResult,
    Log,
    Machine,
    Step,
    Store,
    WantedMethod,
    compaction,
    no_hook,
)
from imarium.custody import log as log_module
from imarium.custody.compaction import compacted
from imarium.custody.journal import Journal
from imarium.custody.life import judge
from imarium.custody.machine import read_machine
from imarium.custody.proof import no_registers
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.records import read_records
from imarium.formats.registers import IMA_PCR
from imarium.rot import tpm_clock

FIRST = Machine("first", "one", "box", 5, 0, 1000)


class Host:
    def __init__(self, path: Path, *, tpm: bool = False) -> None:
        self.kernel = Kernel()
        self.kernel.boot()
        self.store = path / "store"
        self.tpm = tpm
        self.machine = FIRST

    def keep(self, method: WantedMethod = "prompt", hook: Hook = no_hook) -> KeepResult:
        keeper = Keeper(
            Store(self.store, create=True),
            self.kernel,
            boot_id="unused",
            registers=self.kernel.registers if self.tpm else no_registers,
            machine=lambda: self.machine,
            hook=hook,
        )
        try:
            return keeper.once(method)
        finally:
            keeper.close()

    def log(self, number: int | None = None) -> Log:
        return Store(self.store).log(number)

    def names(self, number: int | None = None) -> list[str]:
        return [(record.name or b"").decode() for record in self.log(number).records_from(0)]

    def machines(self, number: int | None = None) -> list[Entry]:
        return [entry for entry in self.log(number).journal.entries if entry.event is Event.MACHINE]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Without registers, so that what else is known decides."""
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("after", "change", "reset", "notable"),
    [
        (FIRST, "same", False, False),
        (replace(FIRST, clock=2000), "same", False, False),
        (replace(FIRST, restart_count=1), "resumed", False, False),
        (replace(FIRST, boot_id="second", clock=2000), "kexec", False, False),
        (replace(FIRST, boot_id="second", reset_count=6, clock=10), "reboot", True, False),
        (replace(FIRST, clock=999), "rewound", None, True),
        (replace(FIRST, boot_id="second", reset_count=4), "rewound", None, True),
        (replace(FIRST, name="two"), "moved", None, True),
        (replace(FIRST, product="other box"), "moved", None, True),
        (replace(FIRST, name="", product=""), "same", False, False),
        (Machine("first", "one"), "same", False, False),
        (Machine("second", "one"), "other kernel", None, False),
    ],
)
def test_what_became_of_a_machine(after: Machine, change: str, reset: bool | None, notable: bool) -> None:
    found = judge(FIRST, after)
    assert (found.change, found.reset, found.notable) == (change, reset, notable)
    assert found.reason
    assert "\n" not in found.reason
    assert judge(None, after).change == "first"


def test_a_time_of_day_that_went_back_is_said() -> None:
    times = {"before_at": "2026-01-01T00:01:00+00:00", "after_at": "2026-01-01T00:00:00.000+00:00"}
    found = judge(FIRST, FIRST, **times)
    assert (found.change, found.notable) == ("same", True)
    assert "the time of day went back by 60 s" in found.reason
    for before_at in ("", "nonsense", "2026-01-01T00:00:01+00:00", "2026-01-01T00:00:00"):
        assert not judge(FIRST, FIRST, before_at=before_at, after_at=times["after_at"]).notable


def test_a_kexec_after_a_full_drain_is_told_by_the_reset_count(host: Host) -> None:
    host.keep()
    host.kernel.kexec()
    host.machine = replace(FIRST, boot_id="second", clock=2000)
    result = host.keep()
    assert (result.log, result.verdict, host.names()) == (0, "unproven", ["boot_aggregate", "boot_aggregate"])
    noted = host.machines()
    assert [entry.machine for entry in noted] == [FIRST, host.machine]
    assert "a kexec; unproven: no register can be read" in noted[1].detail


def test_a_reboot_is_told_by_the_reset_count_though_the_lists_begin_alike(host: Host) -> None:
    host.kernel.measure("a")
    host.keep("follow")
    host.machine = replace(FIRST, reset_count=6)  # a boot id can be chosen by who starts a virtual machine
    result = host.keep("follow")
    assert (result.log, host.names(1)) == (1, ["boot_aggregate", "a"])
    assert "its reset count rose from 5 to 6" in host.log(1).meta.reason


def test_a_list_that_begins_anew_in_the_same_kernel_is_another_life(host: Host) -> None:
    """As that of an engine that was started again, where no register tells."""
    host.kernel.measure("a")
    host.keep()
    host.kernel.boot()
    host.kernel.measure("b")
    result = host.keep()
    assert (result.log, result.verdict, result.freed_records) == (1, "unproven", 2)
    assert (host.names(0), host.names(1)) == (["boot_aggregate", "a"], ["boot_aggregate", "b"])


def test_the_registers_go_before_the_reset_count(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=True)
    host.keep()
    host.kernel.measure("a")
    host.machine = replace(FIRST, reset_count=6)
    assert (host.keep().log, host.names()) == (0, ["boot_aggregate", "a"])


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (replace(FIRST, clock=400), "the TPM's clock went back from 1000 to 400 ms: a snapshot was restored"),
        (replace(FIRST, product="other box", boot_id="second"), "another machine: a clone"),
    ],
)
def test_a_snapshot_and_a_clone_are_reported(tmp_path: Path, machine: Machine, said: str) -> None:
    """The kernel goes on from a moment that the log is already past."""
    host = Host(tmp_path, tpm=True)
    host.keep("follow")
    then = host.kernel.current_list, host.kernel.state
    host.kernel.measure("a")
    host.keep()
    host.kernel.current_list, host.kernel.state = then
    host.kernel.measure("b")
    host.machine = machine
    result = host.keep()
    assert (result.log, result.verdict, host.names()) == (1, "proven", ["boot_aggregate", "b"])
    assert said in result.machine
    assert said in host.log().meta.reason
    assert said in host.machines()[0].detail
    assert host.names(0) == ["boot_aggregate", "a"]
    host.kernel.measure("c")
    result = host.keep()
    assert (result.log, result.machine, len(host.machines())) == (1, "", 1)


def test_the_machine_is_noted_once(host: Host) -> None:
    for number in range(3):
        host.kernel.measure(str(number))
        host.machine = replace(FIRST, clock=1000 + number)
        host.keep()
    for unread in (replace(FIRST, clock=1003, reset_count=None, restart_count=None), Machine("first", clock=1004)):
        host.kernel.measure("x")
        host.machine = unread
        host.keep()
    assert len(host.machines()) == 1
    assert host.log().machine[0] == replace(FIRST, clock=1004)


def test_a_machine_goes_round_as_a_document() -> None:
    for machine in (FIRST, Machine("boot")):
        assert Machine.from_document(json.loads(json.dumps(machine.to_document()))) == machine
    unfit: list[object] = [
        [],
        {},
        {"boot_id": "x", "name": 1, "product": ""},
        FIRST.to_document() | {"clock": -1},
        {"boot_id": "x"},
    ]
    for bad in unfit:
        with pytest.raises(MalformedInput):
            Machine.from_document(bad)


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    machine = read_machine()
    assert machine.boot_id
    assert tpm_clock.read_clock(tmp_path / "nothing") is None
    for answer in (b"", b"\x80\x01" + bytes(33), bytes(35)):
        device = tmp_path / "device"
        device.write_bytes(answer)
        assert tpm_clock.read_clock(device) is None


def test_the_clock_is_read_from_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = struct.pack(">HIIQQIIB", 0x8001, 35, 0, 77, 123456, 9, 2, 1)
    monkeypatch.setattr("imarium.rot.tpm_clock.os.read", lambda _descriptor, _size: answer)
    (tmp_path / "device").touch()
    clock = tpm_clock.read_clock(tmp_path / "device")
    assert clock is not None
    assert (clock.clock, clock.reset_count, clock.restart_count, clock.safe) == (123456, 9, 2, True)


@pytest.mark.parametrize("tpm", [True, False])
def test_trim_deletes_by_number_without_staging(tmp_path: Path, tpm: bool) -> None:
    host = Host(tmp_path, tpm=tpm)
    host.kernel.measure("a")
    host.kernel.stage = None  # type: ignore[method-assign, assignment]
    result = host.keep("trim")
    assert (result.method, result.kept_records, result.freed_records) == ("trim", 2, 2)
    host.kernel.measure("b", "c")
    assert host.keep("trim").freed_records == 2
    assert host.names() == ["boot_aggregate", "a", "b", "c"]
    assert host.kernel.freed == [records("boot_aggregate", "a"), records("b", "c")]


def test_trim_deletes_what_others_staged_first(host: Host) -> None:
    host.kernel.measure("a")
    host.kernel.stage()
    host.kernel.measure("b")
    assert host.keep("trim").freed_records == 3
    assert host.kernel.freed == [records("boot_aggregate", "a"), records("b")]


def test_trim_that_the_kernel_refuses_falls_back_and_says_so(tmp_path: Path) -> None:
    kernel = FileKernel(tmp_path / "kernel")
    kernel.measure("boot_aggregate", "a")
    kernel.change(flush_htable=True)
    keeper = Keeper(Store(tmp_path / "store", create=True), kernel, boot_id="boot", registers=kernel.registers)
    for _ in range(2):
        result = keeper.once("trim")
        assert (result.method, result.verdict, kernel.held()) == ("prompt", "proven", b"")
        assert "ima_flush_htable" in result.method_reason
        kernel.measure("b")
    log = Store(tmp_path / "store").log()
    assert [e.detail for e in log.journal.entries if e.event is Event.INTENT] == ["trim", "stage", "stage"]
    assert [r.name for r in log.records_from(0)] == [b"boot_aggregate", b"a", b"b"]


def test_what_changes_while_it_is_trimmed_is_not_deleted(host: Host) -> None:
    """Should someone delete in spite of the lock, a deletion by number would take records that are not kept."""
    host.keep()
    host.kernel.measure("a", "b")

    def changed(step: Step) -> None:
        if step is Step.JOURNALED:
            host.kernel.current_list = records("x", "y")

    result = host.keep("trim", changed)
    assert (result.verdict, result.freed_records, host.kernel.current_list) == ("refused", 0, records("x", "y"))


@pytest.mark.parametrize("tpm", [True, False])
@pytest.mark.parametrize("when", ["before staging", "before deleting", "before trimming"])
def test_a_kexec_under_way_keeps_and_deletes_nothing(tmp_path: Path, tpm: bool, when: str) -> None:
    host = Host(tmp_path, tpm=tpm)
    host.keep()
    host.kernel.measure("a", "b")
    stage = host.kernel.stage

    def staged() -> None:
        stage()
        host.kernel.suspended = True

    if when == "before deleting":
        host.kernel.stage = staged  # type: ignore[method-assign]
    else:
        host.kernel.suspended = True
    result = host.keep("trim" if when == "before trimming" else "prompt")
    assert (result.kept_records, result.freed_records, result.verdict != "refused") == (2, 0, True)
    assert "a kexec is under way" in result.reason
    last = host.log().journal.last
    assert last is not None
    assert (last.event, last.bytes - last.base) == (Event.CARRIED, len(records("a", "b")))
    if when == "before deleting":
        host.kernel.stage = stage  # type: ignore[method-assign]
    host.kernel.suspended = False
    host.kernel.kexec()
    host.machine = replace(FIRST, boot_id="second")
    host.kernel.measure("c")
    assert host.keep().freed_records == 4
    assert (host.log().number, host.names()) == (0, ["boot_aggregate", "a", "b", "boot_aggregate", "c"])


def long_journal(host: Host, runs: int) -> None:
    for number in range(runs):
        host.kernel.measure(str(number))
        host.keep()


def test_a_journal_stays_short_and_the_log_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_LONG_JOURNAL", 20_000)
    monkeypatch.setattr(compaction, "_NEWEST", 8)
    host.tpm = True
    sizes = []
    for _ in range(10):
        long_journal(host, 10)
        sizes.append(host.log().journal.path.stat().st_size)
    assert max(sizes) < 25_000
    log = host.log()
    snapshots = [entry for entry in log.journal.entries if entry.event is Event.SNAPSHOT]
    assert len(snapshots) == 1
    assert snapshots[0].registers == (IMA_PCR,)
    assert log.machine[0] == FIRST
    assert log.end_state() == log.resumed_state()
    assert log.proved_by == (IMA_PCR,)
    assert log.records == 101
    assert [r.number for r in log.records_from(3, 2)] == [3, 4]
    assert sorted(path.name for path in log.directory.iterdir()) == ["index", "journal", "list", "meta.json"]


def test_what_a_compaction_keeps() -> None:
    def entry(event: Event, number: int, **more: object) -> Entry:
        return Entry(event, f"at {number}", "boot", number, number * 10, 0, **more)  # type: ignore[arg-type]

    lines = [entry(Event.GAP, 0), *(entry(Event.KEPT, n, state=ChainState(n), next_base=n) for n in range(1, 200))]
    found = compacted(lines)
    assert found is not None
    gap, snapshot, *newest = found
    assert gap == lines[0]
    assert newest == lines[-len(newest) :]
    assert (snapshot.event, snapshot.records, snapshot.next_base) == (Event.SNAPSHOT, newest[0].records - 1, None)
    assert "stands for 135 lines, the first of at 0" in snapshot.detail
    assert compacted(lines[:20]) is None
    assert compacted([entry(Event.INTENT, 1)] * 200) is None
    assert compacted(found) is None
    cut = [*lines[:100], entry(Event.CUT, 100), *[entry(Event.INTENT, 100)] * 100]
    kept = compacted(cut)
    assert kept is not None
    assert [e.event for e in kept[:3]] == [Event.GAP, Event.SNAPSHOT, Event.CUT]


def test_a_compaction_that_fails_leaves_the_journal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    long_journal(host, 10)
    monkeypatch.setattr(log_module, "_LONG_JOURNAL", 1)
    monkeypatch.setattr(compaction, "_NEWEST", 2)

    def full(*_arguments: object) -> None:
        raise MissingComponent("No space left on device")

    monkeypatch.setattr("imarium.durable.replace_file", full)
    host.kernel.measure("a")
    assert host.keep().freed_records == 1
    assert len(host.log().journal.entries) > 30


def test_what_a_compaction_left_unfinished_is_removed(host: Host) -> None:
    host.keep()
    beside = host.log().directory / ".0123456789abcdef.new"
    beside.write_bytes(b"half")
    host.kernel.measure("a")
    host.keep()
    assert not beside.exists()


def test_new_members_of_the_journal_go_round(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"")
    entries = [
        Entry(Event.MACHINE, "now", "boot", 0, 0, 0, clock=7, machine=FIRST),
        Entry(Event.GAP, "now", "boot", 0, 0, 0, missing=3),
        Entry(Event.SNAPSHOT, "now", "boot", 0, 0, 0),
    ]
    journal = Journal(path)
    for entry in entries:
        journal.append(entry)
    assert Journal(path).entries == entries
    assert [r.number for r in read_records([records("a")], LAYOUT)] == [0]
