"""Custody and the registers of a simulated kernel: what they prove, and what is freed where they do not."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import pytest
from tests.unit.custody_host import Host
from tests.unit.custody_kernel import LAYOUT

from imarium.chain import RegisterValues, replay
from imarium.custody import Event, Store, no_registers
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA384


def test_without_a_register_it_frees_and_says_unproven(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=False)
    result = host.keep()
    assert (result.verdict, result.registers, result.freed_records) == ("unproven", (), 1)
    host.kernel.measure("a")
    assert (host.keep().verdict, host.names()) == ("unproven", ["boot_aggregate", "a"])


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
    for kept in (1, 0):
        result = host.keep()
        assert (result.verdict, result.kept_records, result.freed_records) == ("refused", kept, 0)
        assert "driver" in result.reason
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
        assert "--tcti" in result.reason
        assert "\n" not in result.reason
    assert (host.names(), host.kernel.freed) == (["boot_aggregate", "a"], freed)
    host.registers = host.kernel.registers
    assert (host.keep().verdict, host.names()) == ("proven", ["boot_aggregate", "a"])
    assert host.kernel.current_list == host.kernel.staged_list == b""


@pytest.mark.parametrize("method", ["prompt", "follow"])
def test_a_refusal_stands_until_a_run_proves_the_log_be_there_new_records_or_none(
    host: Host, method: Literal["prompt", "follow"]
) -> None:
    host.keep(method)
    host.registers = no_registers
    for _ in range(2):
        assert host.keep(method).verdict == "refused"
        assert Store(host.path).log().refusal is not None
    host.registers = host.kernel.registers
    assert host.keep(method).verdict == "proven"
    log = Store(host.path).log()
    assert log.refusal is None
    lines = len(log.journal.entries)
    assert host.keep(method).verdict == "proven"
    assert len(Store(host.path).log().journal.entries) == lines


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


def test_an_empty_kernel_whose_register_moved_on_is_refused(host: Host) -> None:
    host.keep()
    host.kernel.measure("lost")
    host.kernel.stage()
    host.kernel.delete_staged()
    assert [host.keep().verdict, host.keep().verdict] == ["refused", "refused"]
    events = [entry.event for entry in Store(host.path).log().journal.entries]
    assert events.count(Event.REFUSED) == 1


def test_a_register_beside_ten_must_be_reached_too(host: Host) -> None:
    host.registers = lambda wanted: {p: {SHA1: host.kernel.state.value(p, SHA1)} for p in wanted}
    host.kernel.measure("x", pcr=11)
    assert host.keep().registers == (10, 11)
    host.kernel.measure("y", pcr=11, extend=False)
    host.kernel.measure("z")
    assert host.keep().verdict == "refused"
