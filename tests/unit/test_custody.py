"""Custody over a simulated kernel: continuity, crashes at every step, refusals."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.unit.custody_host import Died, Host, dying_at
from tests.unit.custody_kernel import LAYOUT, record, records, violation

from imarium.chain import replay
from imarium.custody import Custody, Event, Log, Step, Store
from imarium.custody.listing import Listing, survey
from imarium.custody.overlap import MAX_CANDIDATES, overlaps
from imarium.custody.steps import kill_at
from imarium.errors import MissingComponent, RefusedOperation, UsageError
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA256


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


def test_a_record_that_comes_often_does_not_hide_where_the_list_joins_the_log(host: Host) -> None:
    """IMA has a record for each violation, and those of one file are all the same."""
    often, files = violation("/var/log/x"), [f"/{number:04}/" + "x" * 200 for number in range(60)]
    host.keep()
    host.kernel.add(often * 200 + records("a") + often + records(*files))
    host.keep("follow")
    host.kernel.current_list = host.kernel.current_list[host.kernel.current_list.rfind(often) :]  # by someone else
    host.kernel.measure(*(f"new {number}" for number in range(300)))
    result = host.keep()
    assert (result.verdict, result.log, result.kept_records) == ("proven", 0, 300)


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
