"""The service of custody on a real kernel: idle without feeding its own list, and with others on the same files."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

SESSION = Path(__file__).with_name("service_session.py")


@pytest.fixture(scope="module")
def out(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    share = tmp_path_factory.mktemp("service")
    disk = share / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    command = f"{guest_python} {shlex.quote(str(SESSION))}"
    done = guest(command, append="ima_policy=tcb", share=share, disk=disk, timeout=280)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


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
