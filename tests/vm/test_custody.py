"""Custody on a real kernel with a TPM: what is kept is what the kernel had, and the registers vouch for it."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.vm.kexec_script import KEXEC
from vm.guest import Guest

from imarium import hashes
from imarium.chain import replay
from imarium.custody import Custody
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR

SESSION = Path(__file__).with_name("custody_session.py")
POLICY = "ima_policy=tcb ima_policy=critical_data"


def session(guest: Guest, guest_python: str, name: str, share: Path, *, after: str = "") -> dict[str, Any]:
    command = f"{guest_python} {shlex.quote(str(SESSION))} {name}"
    done = guest(f"{command} || exit 9; {after}", append=POLICY, share=share, timeout=300)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


def names(data: bytes) -> list[str]:
    return [(record.name or b"").decode() for record in read_records([data], ListLayout())]


@pytest.fixture(scope="module")
def drains(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    share = tmp_path_factory.mktemp("drains")
    return session(guest, guest_python, "drains", share), share


def test_two_drains_keep_the_kernels_bytes(drains: tuple[dict[str, Any], Path]) -> None:
    out, share = drains
    assert out["status"] == [0, 0], out["keep"]
    full, second = bytes.fromhex(out["full"]), bytes.fromhex(out["second_list"])
    kept = (share / "store" / "logs" / "0000" / "list").read_bytes()
    assert kept.startswith(full)
    cut = out["keep"][0]["total"]["bytes"]
    assert cut >= len(full)
    assert kept[cut:].startswith(second)
    assert kept == bytes.fromhex(out["check"]["kept"])
    assert all(names(kept).count(program) == 1 for program in out["programs"])


def test_the_kernel_is_rid_of_what_is_kept(drains: tuple[dict[str, Any], Path]) -> None:
    out, _ = drains
    before, after, end = out["counts"]
    assert before > 50
    assert after < 10
    assert end < 10
    first, second = out["keep"]
    assert first["freed"] == first["kept"] == first["total"]
    assert second["freed"] == second["kept"]
    assert second["total"]["records"] == first["total"]["records"] + second["kept"]["records"]
    assert [first["method"], first["verdict"], first["registers"]] == ["prompt", "proven", [10]]


def test_replay_of_the_kept_list_reaches_the_registers_in_both_banks(drains: tuple[dict[str, Any], Path]) -> None:
    out, share = drains
    kept = (share / "store" / "logs" / "0000" / "list").read_bytes()
    values = {hashes.by_name(name): bytes.fromhex(value) for name, value in out["registers"].items()}
    assert {bank.name for bank in values} == {"sha1", "sha256"}
    result = replay([kept, bytes.fromhex(out["pending"])], ListLayout(), targets={IMA_PCR: values})
    assert result.bad_digests == ()
    hits = result.matches.covered[IMA_PCR]
    assert all(hit is not None and hit >= out["keep"][1]["total"]["records"] for hit in hits.values())
    assert out["check"]["reached"]
    assert out["check"]["complete"]


def test_the_store_is_the_owners_alone(drains: tuple[dict[str, Any], Path]) -> None:
    _, share = drains
    modes = {path.stat().st_mode & 0o777 for path in (share / "store").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (share / "store").rglob("*") if path.is_dir()} == {0o700}


@pytest.fixture(scope="module")
def others(guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return session(guest, guest_python, "others", tmp_path_factory.mktemp("others"))


def test_other_actors_lose_us_nothing(others: dict[str, Any]) -> None:
    out = others
    assert os.waitstatus_to_exitcode(out["busy"][0]) == 4
    assert out["busy_error"].startswith("list_busy: ")
    assert os.waitstatus_to_exitcode(out["patient"][0]) == 0
    assert out["errors"]["stage"].startswith("already_staged: ")
    assert out["errors"]["delete_many"].startswith("nothing_to_delete: ")
    assert out["errors_after"]["delete_staged"].startswith("nothing_to_delete: ")
    assert os.waitstatus_to_exitcode(out["leftover"][0]) == 0
    assert out["leftover"][1]["verdict"] == "proven"
    kept = names(bytes.fromhex(out["check"]["kept"]))
    assert [kept.count(f"/opt/imarium-test/{name}") for name in ("staged-by-other", "after-other")] == [1, 1]
    assert out["check"]["complete"]
    assert os.waitstatus_to_exitcode(out["second"][0]) == 1
    refused, can_delete, could_read = out["unprivileged"]
    assert refused.startswith("write_not_permitted: ")
    assert (can_delete, could_read) == ("False", "True")


def test_records_that_someone_else_deleted_are_a_gap_and_nothing_more_is_deleted(others: dict[str, Any]) -> None:
    out = others
    for status, result in out["gap"]:
        assert os.waitstatus_to_exitcode(status) == 1
        assert result["verdict"] == "refused"
        assert result["freed"] == {"records": 0, "bytes": 0}
    assert out["gap_kernel"]
    assert [log["start"] for log in out["gap_logs"]] == ["reset", "unknown"]
    assert "gap" in out["gap_logs"][1]["events"]
    assert out["gap_logs"][1]["names"].count("/opt/imarium-test/after-lost") == 1
    assert not any("/opt/imarium-test/lost" in log["names"] for log in out["gap_logs"])


def test_a_log_goes_on_over_a_kexec(guest: Guest, guest_python: str, tmp_path: Path) -> None:
    load = f"grep -q second_kernel /proc/cmdline || {guest_python} -c {shlex.quote(KEXEC)}"
    first = session(guest, guest_python, "kexec", tmp_path, after=load)
    second = json.loads((tmp_path / "out-2.json").read_text())
    assert first["boot"] != second["boot"]
    assert [status for status, _ in [*first["first"], *second["second"]]] == [0, 0, 0]
    assert [result["log"] for _, result in second["second"]] == [0, 0]
    custody = Custody(tmp_path / "store")
    kept = [(record.name or b"").decode() for record in custody.log().records_from(0)]
    wanted = ["before-kexec", "carried-over", "after-kexec"]
    assert [kept.count(f"/opt/imarium-test/{name}") for name in wanted] == [1, 1, 1]
    assert kept.count("boot_aggregate") == 2
    assert second["check"]["complete"]
