"""The custody service killed at every step on a real kernel: no record is lost or doubled."""

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest
from vm.machine import Machine, Setup

from imarium import hashes
from imarium.chain import replay
from imarium.custody import Step, Store
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR

SESSION = Path(__file__).with_name("custody_session.py")
POLICY = "ima_policy=tcb ima_policy=critical_data"


@pytest.fixture(scope="module")
def crashes(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    share = tmp_path_factory.mktemp("crashes")
    command = f"{guest_python} {shlex.quote(str(SESSION))} crashes"
    done = guest(command, append=POLICY, share=share, timeout=600)
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


@pytest.mark.parametrize("step", [Step.SYNCED, Step.DELETED])
def test_what_left_the_kernel_outlives_a_power_cut(
    staging_kernel: Path, guest: Guest, guest_python: str, tmp_path: Path, step: Step
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    command = f"{guest_python} {shlex.quote(str(SESSION))} power {step}"
    setup = Setup(kernel=staging_kernel, command=("/bin/sh", "-c", command), append=POLICY, disk=disk)
    with Machine(setup) as machine:
        machine.wait_for(" cut now", 240)
        machine.cut_power()
        said = re.search(r"registers (\{.*\}) pending ([0-9a-f]*) cut now", machine.console)
    assert said is not None
    script = f"{command} && mount /dev/vda /mnt && cp -r /mnt/store /shared/store"
    share = tmp_path / "share"
    share.mkdir()
    done = guest(script, append=POLICY, disk=disk, share=share)
    assert done.status == 0, done.console
    again = json.loads((share / "out.json").read_text())
    assert (again["status"], again["result"]["log"], again["result"]["verdict"]) == (0, 1, "proven"), again
    first = Store(share / "store").log(0)
    kept = b"".join(first.blocks())
    if step is Step.DELETED:
        values = {hashes.by_name(name): bytes.fromhex(value) for name, value in json.loads(said[1]).items()}
        found = replay([kept, bytes.fromhex(said[2])], first.layout, targets={IMA_PCR: values}).matches
        assert found.prefix is not None
        assert found.prefix >= first.records > 50
    else:
        kernel = bytes.fromhex(said[2])
        assert kernel.startswith(kept), "what was not deleted was kept otherwise than the kernel has it"
        assert first.records > 50


def test_an_idle_run_is_harmless(crashes: dict[str, Any]) -> None:
    status, result = crashes["idle"]
    assert status == 0
    assert result["verdict"] == "proven"
    assert crashes["check"]["complete"]
