"""Custody over a simulated kernel: continuity, crashes at every step, refusals."""

import tracemalloc
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests.unit.custody_kernel import LAYOUT, Kernel, record, records

from imarium.chain import ChainState, RegisterValues, replay
from imarium.custody import Custody, Event, Hook, Keeper, KeepResult, Log, ReadRegisters, Step, Store, no_registers
from imarium.custody.journal import Journal
from imarium.custody.listing import Listing, survey
from imarium.custody.overlap import MAX_CANDIDATES, overlaps
from imarium.custody.steps import kill_at
from imarium.errors import MalformedInput, MalformedRecord, MissingComponent, RefusedOperation, UsageError
from imarium.formats.records import read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384, HashAlgorithm


class Died(Exception):
    """The simulated kill."""


def dying_at(step: Step) -> Hook:
    def hook(reached: Step) -> None:
        if reached is step:
            raise Died

    return hook


class Host:
    """A kernel, its boot id, and a store."""

    def __init__(self, path: Path, *, tpm: bool = True, staging: bool = True) -> None:
        self.path = path / "store"
        self.kernel = Kernel(staging=staging)
        self.kernel.boot()
        self.boot_id = "first"
        self.registers: ReadRegisters = self.kernel.registers if tpm else no_registers

    def keep(self, method: Literal["auto", "prompt", "follow"] = "auto", hook: Hook = lambda _step: None) -> KeepResult:
        store = Store(self.path, create=True)
        return Keeper(store, self.kernel, boot_id=self.boot_id, registers=self.registers, hook=hook).once(method)

    def names(self, number: int | None = None) -> list[str]:
        return [(r.name or b"").decode() for r in Store(self.path).log(number).records_from(0)]

    def whole(self) -> list[str]:
        whole = Custody(self.path).whole(self.kernel, boot_id=self.boot_id, registers=self.registers)
        return [(r.name or b"").decode() for r in read_records(whole.blocks(), LAYOUT)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(params=[True, False], ids=["tpm", "no-tpm"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, tpm=bool(request.param))


def test_prompt_keeps_proves_and_frees(host: Host) -> None:
    host.kernel.measure("a", "b")
    result = host.keep()
    assert (result.method, result.verdict, result.registers) == ("prompt", "proven", (IMA_PCR,))
    assert (result.kept_records, result.freed_records, result.records) == (3, 3, 3)
    assert host.kernel.freed == [records("boot_aggregate", "a", "b")]
    assert host.kernel.current_list == host.kernel.staged_list == b""
    host.kernel.measure("c")
    assert host.keep().records == 4
    assert (host.path / "logs/0000/list").read_bytes() == records("boot_aggregate", "a", "b", "c")


def test_without_a_register_it_frees_and_says_unproven(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=False)
    result = host.keep()
    assert (result.verdict, result.registers, result.freed_records) == ("unproven", (), 1)
    host.kernel.measure("a")
    assert (host.keep().verdict, host.names()) == ("unproven", ["boot_aggregate", "a"])


def test_follow_keeps_what_is_new_and_frees_nothing(either: Host) -> None:
    either.kernel.measure("a")
    first = either.keep("follow")
    either.kernel.measure("b")
    second = either.keep("follow")
    assert (first.kept_records, second.kept_records, second.freed_records) == (2, 1, 0)
    assert either.names() == ["boot_aggregate", "a", "b"]
    assert either.kernel.freed == []
    assert either.keep("follow").kept_records == 0


def test_prompt_after_follow_frees_what_was_followed(either: Host) -> None:
    either.kernel.measure("a")
    either.keep("follow")
    either.kernel.measure("b")
    result = either.keep("prompt")
    assert (result.kept_records, result.freed_records) == (1, 3)
    assert either.names() == ["boot_aggregate", "a", "b"]


def test_auto_says_why(tmp_path: Path) -> None:
    host = Host(tmp_path, staging=False)
    assert (host.keep().method, host.keep().method_reason) == ("follow", "the kernel has no staging files")
    with pytest.raises(MissingComponent, match="no staging"):
        host.keep("prompt")
    host.kernel.staging, host.kernel.deletable = True, False
    assert host.keep().method_reason == "the staging files may not be opened for write"


STEPS = list(Step)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("meanwhile", [(), ("m",)], ids=["idle", "busy"])
@pytest.mark.parametrize("method", ["prompt", "follow"])
def test_a_run_that_dies_at_any_step_loses_and_doubles_nothing(
    either: Host, step: Step, meanwhile: tuple[str, ...], method: Literal["prompt", "follow"]
) -> None:
    either.kernel.measure("a")
    if step is not Step.CREATED:
        either.keep(method)
    either.kernel.measure("b", "c")
    reached = True
    try:
        either.keep(method, dying_at(step))
        reached = False
    except Died:
        pass
    assert reached or (method == "follow" and step in {Step.INTENT, Step.STAGED, Step.READ, Step.DELETED})
    either.kernel.measure(*meanwhile)
    assert either.whole() == ["boot_aggregate", "a", "b", "c", *meanwhile]
    assert either.keep(method).verdict == ("proven" if either.registers == either.kernel.registers else "unproven")
    assert either.names() == ["boot_aggregate", "a", "b", "c", *meanwhile]
    assert either.whole() == ["boot_aggregate", "a", "b", "c", *meanwhile]


@pytest.mark.parametrize("step", STEPS)
def test_what_is_freed_was_journaled_before(host: Host, step: Step) -> None:
    host.kernel.measure("a")
    with pytest.raises(Died):
        host.keep("prompt", dying_at(step))
    freed = STEPS.index(step) >= STEPS.index(Step.DELETED)
    assert host.kernel.freed == ([records("boot_aggregate", "a")] if freed else [])
    journaled = STEPS.index(step) >= STEPS.index(Step.JOURNALED)
    kept = host.names() if Store(host.path).numbers else []
    assert kept == (["boot_aggregate", "a"] if journaled else [])


def test_a_reset_begins_a_new_log_though_the_lists_begin_alike(either: Host) -> None:
    either.kernel.measure("a")
    either.keep("follow")
    either.kernel.boot()
    either.kernel.measure("a", "b")
    either.boot_id = "second"
    assert either.keep("follow").log == 1
    assert (either.names(0), either.names(1)) == (["boot_aggregate", "a"], ["boot_aggregate", "a", "b"])


@pytest.mark.parametrize("method", ["prompt", "follow"])
def test_a_kexec_goes_on_in_the_same_log(either: Host, method: Literal["prompt", "follow"]) -> None:
    either.kernel.measure("a")
    either.keep("follow")
    either.kernel.measure("b")
    either.kernel.kexec()
    either.boot_id = "second"
    either.kernel.measure("a")
    assert either.keep(method).log == 0
    assert either.names() == ["boot_aggregate", "a", "b", "boot_aggregate", "a"]


def test_a_kexec_after_everything_was_freed_is_proved_by_the_register(host: Host) -> None:
    host.keep()
    host.kernel.kexec()
    host.boot_id = "second"
    assert (host.keep().log, host.names()) == (0, ["boot_aggregate", "boot_aggregate"])


def test_records_repeated_after_deletion_are_kept_twice(either: Host) -> None:
    either.kernel.measure("a")
    either.keep()
    either.kernel.measure("a", "b")
    either.keep()
    assert either.names() == ["boot_aggregate", "a", "a", "b"]


def test_records_staged_by_others_are_kept_and_freed(either: Host) -> None:
    either.keep()
    either.kernel.measure("a")
    either.kernel.stage()
    either.kernel.measure("b")
    result = either.keep()
    assert (result.kept_records, result.freed_records, either.names()) == (2, 2, ["boot_aggregate", "a", "b"])


def test_what_was_followed_over_both_lists_is_freed_list_by_list(either: Host) -> None:
    either.kernel.measure("a")
    either.kernel.stage()
    either.kernel.measure("b")
    either.keep("follow")
    with pytest.raises(Died):
        either.keep("prompt", dying_at(Step.DELETED))
    either.kernel.measure("c")
    result = either.keep("prompt")
    assert (result.kept_records, result.freed_records) == (1, 2)
    assert either.kernel.freed == [records("boot_aggregate", "a"), records("b", "c")]
    assert either.names() == ["boot_aggregate", "a", "b", "c"]


def test_a_register_that_is_not_reached_frees_nothing_and_keeps_all(host: Host) -> None:
    host.keep()
    host.kernel.measure("a")
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("b")
    for kept in (3, 0):
        result = host.keep()
        assert (result.verdict, result.kept_records, result.freed_records) == ("refused", kept, 0)
        assert ("were not extended" if kept else "no register proves it") in result.reason
    assert len(host.kernel.freed) == 1
    assert host.kernel.staged_list == b""
    assert (host.names(0), host.names(1)) == (["boot_aggregate"], ["a", "failed", "b"])


def test_registers_that_vanish_in_a_run_free_nothing(host: Host) -> None:
    reads: list[int] = []

    def once(wanted: Collection[PcrIndex]) -> RegisterValues:
        reads.append(len(wanted))
        return host.kernel.registers(wanted) if len(reads) == 1 else {}

    host.registers = once
    result = host.keep()
    assert (result.verdict, result.kept_records, result.freed_records) == ("refused", 1, 0)
    host.registers = host.kernel.registers
    assert (host.keep().verdict, host.names()) == ("proven", ["boot_aggregate"])


@pytest.mark.parametrize("method", ["prompt", "follow"])
def test_registers_that_vanish_between_runs_free_nothing(host: Host, method: Literal["prompt", "follow"]) -> None:
    host.keep(method)
    assert Store(host.path).log().proved_by == (IMA_PCR,)
    freed = list(host.kernel.freed)
    host.registers = no_registers
    host.kernel.measure("a")
    for kept in (1, 0):
        result = host.keep()
        assert (result.verdict, result.kept_records, result.freed_records) == ("refused", kept, 0)
        assert "register 10 proved this log before" in result.reason
        assert "\n" not in result.reason
    assert (host.names(), host.kernel.freed) == (["boot_aggregate", "a"], freed)
    host.registers = host.kernel.registers
    assert (host.keep().verdict, host.names()) == ("proven", ["boot_aggregate", "a"])
    assert host.kernel.current_list == host.kernel.staged_list == b""


def test_registers_that_vanish_over_a_reset_do_not_matter(host: Host) -> None:
    host.keep()
    host.registers = no_registers
    host.kernel.boot()
    host.boot_id = "second"
    result = host.keep()
    assert (result.verdict, result.log, result.freed_records) == ("unproven", 1, 1)
    host.kernel.measure("a")
    assert (host.keep().verdict, host.names()) == ("unproven", ["boot_aggregate", "a"])


@pytest.mark.parametrize("method", ["prompt", "follow"])
def test_registers_that_appear_and_vanish_are_remembered(host: Host, method: Literal["prompt", "follow"]) -> None:
    host.registers = no_registers
    assert host.keep(method).verdict == "unproven"
    host.registers = host.kernel.registers
    assert host.keep(method).verdict == "proven"
    host.registers = no_registers
    host.kernel.measure("a")
    assert host.keep().verdict == "refused"


def test_a_bank_that_the_kernel_pads_is_proved_and_stays_so(host: Host) -> None:
    kept = host.kernel

    def padded(wanted: Collection[PcrIndex]) -> RegisterValues:
        state = replay(
            [b"".join(kept.freed), kept.staged_list, kept.current_list], LAYOUT, [SHA1, SHA384], padded=[SHA384]
        )
        return {pcr: state.state.values[pcr] for pcr in wanted}

    host.registers = padded
    assert host.keep().verdict == "proven"
    kept.measure("a")
    assert host.keep().verdict == "proven"
    assert Store(host.path).log().meta.padded == {SHA384}


def test_a_list_that_is_ahead_of_the_register_for_good_is_not_freed(host: Host) -> None:
    host.kernel.measure("failed", extend=False)
    result = host.keep()
    assert result.verdict == "refused"
    assert "stands for 1 records only" in result.reason
    assert host.kernel.freed == []
    assert host.names() == ["boot_aggregate", "failed"]
    assert host.keep().verdict == "refused"
    assert host.names() == ["boot_aggregate", "failed"]


def test_records_deleted_by_others_are_a_gap(host: Host) -> None:
    host.keep()
    host.kernel.measure("lost")
    host.kernel.stage()
    host.kernel.delete_staged()
    host.kernel.measure("b")
    assert host.keep().verdict == "refused"
    host.kernel.measure("c")
    result = host.keep()
    assert (result.verdict, result.log, result.freed_records) == ("refused", 1, 0)
    log = Store(host.path).log()
    assert (log.meta.start, host.names()) == ("unknown", ["b", "c"])
    assert Event.GAP in {entry.event for entry in log.journal.entries}
    with pytest.raises(RefusedOperation, match="no known start"):
        log.state_at(1)
    host.kernel.boot()
    host.boot_id = "second"
    assert (host.keep().verdict, host.names()) == ("proven", ["boot_aggregate"])


def test_an_empty_kernel_whose_register_moved_on_is_refused(host: Host) -> None:
    host.keep()
    host.kernel.measure("lost")
    host.kernel.stage()
    host.kernel.delete_staged()
    assert [host.keep().verdict, host.keep().verdict] == ["refused", "refused"]
    events = [entry.event for entry in Store(host.path).log().journal.entries]
    assert events.count(Event.REFUSED) == 1


def test_a_record_whose_digest_is_not_its_datas_is_never_freed(either: Host) -> None:
    bad = bytearray(record("bad"))
    bad[4] ^= 1
    either.keep()
    either.kernel.current_list = bytes(bad)
    either.kernel.state = replay([bytes(bad)], LAYOUT, start=either.kernel.state).state
    result = either.keep()
    assert (result.verdict, "template digest" in result.reason) == ("refused", True)
    assert either.kernel.staged_list + either.kernel.current_list == bytes(bad)


def test_a_kernel_list_that_cannot_be_read_leaves_all_as_it_is(host: Host) -> None:
    host.keep()
    host.kernel.current_list = record("a")[:-3]
    with pytest.raises(MalformedRecord):
        host.keep()
    assert host.names() == ["boot_aggregate"]


def test_a_register_beside_ten_must_be_reached_too(host: Host) -> None:
    host.registers = lambda wanted: {p: {SHA1: host.kernel.state.value(p, SHA1)} for p in wanted}
    host.kernel.measure("x", pcr=11)
    assert host.keep().registers == (10, 11)
    host.kernel.measure("y", pcr=11, extend=False)
    host.kernel.measure("z")
    assert host.keep().verdict == "refused"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:]])
def test_a_kept_list_that_was_changed_is_an_error(host: Host, change: Callable[[bytes], bytes]) -> None:
    host.keep()
    path = host.path / "logs/0000/list"
    path.write_bytes(change(path.read_bytes()))
    host.kernel.measure("a")
    with pytest.raises((MalformedInput, MissingComponent)):
        host.keep()
    assert host.kernel.current_list == record("a")


LONG = [f"/{number:04}/" + "x" * 200 for number in range(60)]


def changed(host: Host, offset: int) -> None:
    path = host.path / "logs/0000/list"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def without_tails(host: Host) -> None:
    """Write the journal again as one that notes no sums of the list's last bytes."""
    journal = Store(host.path).log().journal
    entries = [replace(entry, tail="") for entry in journal.entries]
    journal.path.write_bytes(b"")
    again = Journal(journal.path)
    for entry in entries:
        again.append(entry)


def test_a_run_takes_the_log_up_where_the_journal_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    host.kernel.measure("a")
    read: list[int] = []
    blocks = Log.blocks

    def counted(log: Log, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for block in blocks(log, start, end):
            read.append(len(block))
            yield block

    monkeypatch.setattr(Log, "blocks", counted)
    assert host.keep().verdict == "proven"
    assert 0 < sum(read) < 10_000
    whole = Custody(host.path).whole(host.kernel, boot_id="first", registers=host.registers)
    assert sum(read) > whole.size > 12_000


def test_kept_records_that_were_changed_never_become_evidence(either: Host) -> None:
    either.kernel.measure(*LONG)
    either.keep()
    changed(either, 100)
    either.kernel.measure("a")
    with pytest.raises(MalformedInput, match="the list was changed, so restore it"):
        either.whole()
    assert (either.keep().kept_records, either.kernel.current_list) == (1, b"")
    with pytest.raises(MalformedInput, match="the list was changed"):
        either.whole()
    changed(either, 100)
    assert either.whole() == ["boot_aggregate", *LONG, "a"]


def test_a_log_that_is_refused_is_not_replayed_anew_for_each_look(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.keep("follow")
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("a")
    plain, replayed = Log.end_state, []

    def end_state(self: Log, banks: Iterable[HashAlgorithm] = (SHA1,)) -> ChainState | None:
        replayed.append(host.boot_id)
        return plain(self, banks)

    monkeypatch.setattr(Log, "end_state", end_state)
    for number in range(4):
        result = host.keep("follow")
        assert (result.verdict, result.log) == ("refused", 0)
        Custody(host.path).whole(host.kernel, boot_id="first", registers=host.registers, recheck=False)
        host.kernel.measure(str(number))
    assert replayed == ["first"]
    host.kernel.kexec()
    host.boot_id = "second"
    for _ in range(2):
        assert host.keep("follow").verdict == "refused"
    assert replayed == ["first", "second"]


def test_changed_records_are_named_where_no_register_is_reached(host: Host) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    changed(host, 100)
    host.kernel.measure("failed", extend=False)
    host.kernel.measure("a")
    with pytest.raises(MalformedInput, match="the list was changed"):
        host.keep()
    assert host.kernel.current_list == records("failed", "a")


def test_a_journal_without_sums_of_the_list_has_all_replayed(host: Host) -> None:
    host.kernel.measure(*LONG)
    host.keep()
    without_tails(host)
    assert host.keep().verdict == "proven"
    changed(host, 100)
    with pytest.raises(MalformedInput, match="the list was changed"):
        host.keep()


def test_overlaps_are_found_over_the_edges_of_blocks(either: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imarium.durable.BLOCK", 7)
    either.kernel.measure("a", "b", "a", "b")
    either.keep("follow")
    either.kernel.current_list = records("b", "a", "b")  # others have deleted the first two
    either.kernel.measure("c")
    assert either.keep("follow").kept_records == 1
    assert either.keep("prompt").freed_records == 4
    assert either.names() == ["boot_aggregate", "a", "b", "a", "b", "c"]


def test_a_list_of_records_that_are_all_the_same_is_compared_to_a_bound(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record looks like the place to join the log at, up to the log's last."""
    many = ["same"] * 3000
    host.kernel.measure(*many, "last")
    host.keep()
    log = Store(host.path).log()
    data = records(*many)
    kernel = survey(lambda: iter([data]), LAYOUT)
    plain, compared = Log.blocks, [0]

    def blocks(self: Log, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for block in plain(self, start, end):
            compared[0] += len(block)
            yield block

    monkeypatch.setattr(Log, "blocks", blocks)
    assert list(overlaps(log, kernel)) == [0]
    assert compared[0] < 2 * MAX_CANDIDATES * len(data)


def test_no_list_lies_in_memory_whole(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.kernel.measure(*(f"/{number:05}/" + "x" * 4000 for number in range(4000)))
    data = host.kernel.current_list

    def blocks(part: bytes) -> Iterator[bytes]:
        return (part[start : start + 4096] for start in range(0, len(part), 4096))

    monkeypatch.setattr(host.kernel, "staged", lambda: blocks(host.kernel.staged_list))
    monkeypatch.setattr(host.kernel, "current", lambda: blocks(host.kernel.current_list))
    tracemalloc.start()
    try:
        assert host.keep("follow").verdict == "proven"
        assert host.keep("prompt").freed_records == 4001
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) > 16_000_000
    assert peak < len(data) / 4


@pytest.mark.parametrize("size", [1, 3, 100, 1000])
def test_a_listing_gives_any_part_of_what_is_there(size: int) -> None:
    data = records("a", "b", "c")

    def read() -> Iterator[bytes]:
        grown = data + record("d")
        return (grown[start : start + size] for start in range(0, len(grown), size))

    listing = Listing(read, len(data), 3, frozenset({IMA_PCR}))
    for start in range(0, len(data), 17):
        assert b"".join(listing.blocks(start)) == data[start:]
        assert b"".join(listing.blocks(start, start + 40)) == data[start : start + 40]
    assert list(listing.blocks(len(data) + 5)) == []
    assert survey(lambda: iter([data]), LAYOUT).records == 3
    with pytest.raises(MissingComponent, match="run again"):
        list(Listing(lambda: iter([data[:9]]), len(data), 3, frozenset()).blocks())


def test_state_and_records_from_any_number(host: Host) -> None:
    host.kernel.measure("a")
    host.keep()
    host.kernel.measure("b", "c")
    host.keep()
    log = Custody(host.path).log()
    for number in range(5):
        data = b"".join(log.blocks(log.offset_of(number)))
        assert [r.number for r in log.records_from(number)] == list(range(number, 4))
        state = log.state_at(number)
        assert replay([data], LAYOUT, start=state).state.values == host.kernel.state.values
    assert [r.name for r in log.records_from(1, 2)] == [b"a", b"b"]
    assert set(log.state_at(2, [SHA256]).values[IMA_PCR]) == {SHA256}
    with pytest.raises(UsageError, match="no record 5"):
        log.records_from(5)


def test_what_is_pending_follows_what_is_kept(host: Host) -> None:
    host.keep()
    host.kernel.measure("a")
    host.kernel.stage()
    host.kernel.measure("b")
    whole = Custody(host.path).whole(host.kernel, boot_id="first", registers=host.registers)
    assert (whole.records, whole.pending, whole.verdict) == (1, records("a", "b"), "proven")
    assert b"".join(whole.blocks(1)) == records("a", "b")
    assert whole.log is not None
    assert whole.state_at(1) == whole.log.end_state()
    assert host.kernel.freed == [record("boot_aggregate")]


def test_hooks_are_named() -> None:
    with pytest.raises(UsageError, match="no step 'nowhere'"):
        kill_at("nowhere")
    kill_at(None)(Step.DONE)
