"""The custody service killed at every step on a real kernel: no record is lost or doubled."""

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.custody import Step
from imarium.formats.records import ListLayout, read_records

SESSION = Path(__file__).with_name("custody_session.py")


@pytest.fixture(scope="module")
def crashes(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    share = tmp_path_factory.mktemp("crashes")
    command = f"{guest_python} {shlex.quote(str(SESSION))} crashes"
    done = guest(command, append="ima_policy=tcb ima_policy=critical_data", share=share, timeout=600)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


def test_every_step_was_reached_and_killed_at(crashes: dict[str, Any]) -> None:
    killed = {row["step"] for row in crashes["rows"] if row["killed"] == signal.SIGKILL}
    for row in crashes["rows"]:
        print(f"{row['step']:10} killed {row['killed']}, then {row['again']}: {row['check']['records']} records kept")
    assert killed == set(Step)


def test_after_each_kill_the_next_run_is_good_and_the_registers_vouch_for_all(crashes: dict[str, Any]) -> None:
    for row in crashes["rows"]:
        assert row["again"] == 0, row
        assert row["result"]["verdict"] == "proven", row
        assert row["check"]["complete"], row


def test_no_record_is_lost_or_doubled(crashes: dict[str, Any]) -> None:
    kept = b""
    programs: list[str] = []
    for row in crashes["rows"]:
        now = bytes.fromhex(row["check"]["kept"])
        assert now.startswith(kept), row["step"]
        kept = now
        programs += row["programs"]
        names = [(record.name or b"").decode() for record in read_records([now], ListLayout())]
        assert [names.count(program) for program in programs] == [1] * len(programs), row["step"]
        assert names.count("boot_aggregate") == 1


def test_an_idle_run_is_harmless(crashes: dict[str, Any]) -> None:
    status, result = crashes["idle"]
    assert status == 0
    assert result["verdict"] == "proven"
    assert crashes["check"]["complete"]
