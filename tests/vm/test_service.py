"""The service of custody on a real kernel: idle without feeding its own list, and with others on the same files."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def out(session_with_a_disk: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return session_with_a_disk("service")


def test_an_idle_service_adds_nothing_to_the_list(out: dict[str, Any]) -> None:
    idle = out["idle"]
    assert (idle["added"], idle["violations"], idle["journal"], idle["state"]) == (0, 0, 0, "ok")
    assert idle["cpu_share"] < 0.5, "of a processor, emulated, at three drains a second"


def test_a_reader_that_stays_is_named_and_waited_for(out: dict[str, Any]) -> None:
    reader = out["reader"]
    assert f"process {reader['pid']} (sleep)" in reader["reason"]
    assert set(reader["errors"]) == {"list_busy"}


def test_what_another_stages_is_kept(out: dict[str, Any]) -> None:
    staged = out["stage_only"]
    assert staged["verdict"] == "proven"
    assert staged["more"] >= 2
    assert (out["log"]["number"], out["log"]["proved"]) == (0, [10])


def test_the_machine_is_noted_with_its_tpms_counts(out: dict[str, Any]) -> None:
    machine = out["machine"]
    assert machine["boot_id"]
    assert {"reset_count", "restart_count", "clock"} <= machine.keys()


def test_what_another_deletes_by_number_is_a_gap_of_its_size(out: dict[str, Any]) -> None:
    theft = out["theft"]
    assert theft["taken"] >= 3
    assert theft["gap"] is not None
    assert theft["gap"]["missing"] == theft["taken"]
    assert theft["verdicts"] == ["refused", "refused"]
    assert theft["freed"] == 0
    assert theft["starts"][-1] == "unknown"
    assert theft["status"]["gaps"]["count"] == 1
    assert {"started", "drained", "failed", "recovered", "gap", "stopped"} <= set(out["kinds"])
