"""``imarium rot`` for roots of trust by name, as people and programs run it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.real.conftest import Swtpm
from tests.real.guest_simulator import guest

from imarium.hashes import SHA384

SOURCE = Path(__file__).parents[2] / "src"


def run(
    *arguments: object, status: int = 0, command: str = "rot", **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TSS2_", "TPM2", "IMARIUM_"))}
    finished = subprocess.run(
        [sys.executable, "-m", "imarium", command, *map(str, arguments)],
        env={**clean, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == status, finished.stderr
    return finished


def document(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads(finished.stdout)
    assert isinstance(found, dict)
    return found


def test_every_driver_is_listed_and_says_what_to_do() -> None:
    found = {driver["name"]: driver for driver in document(run("list", "--json", "--tcti", "device:/no"))["drivers"]}
    assert list(found) == ["tpm", "tdx", "virtcca", "cca", "snp", "tsm", "software"]
    assert found["software"]["available"]
    assert found["software"]["default_register"] == "rtmr2"
    assert "prove nothing" in found["software"]["summary"]
    advice = {
        "tpm": "there is no /no",
        "tdx": "load the tdx_guest module of Linux 6.16",
        "virtcca": "only confidential guests have reports; or load the tmm_tsi driver of VirtCCA, for /dev/tsi",
        "cca": "mount configfs and load tsm_report",
        "snp": "mount configfs and load tsm_report",
        "tsm": "load one's driver (Linux 6.16)",
    }
    for name, says in advice.items():
        assert not found[name]["available"], "this test is for machines that are no confidential guests"
        assert says in found[name]["detail"]
    lines = run("list", "--tcti", "device:/no").stdout.splitlines()
    assert [line.split(" ")[0] for line in lines] == list(found)
    assert lines[-1].endswith("available; default register rtmr2; banks sha384")


def test_registers_are_read_and_extended_by_name(tmp_path: Path) -> None:
    rot = f"software:{tmp_path / 'registers'}"
    digest = SHA384.digest(b"event")
    expected = SHA384.digest(bytes(48) + digest).hex()
    made = run("extend", "--rot", rot, "rtmr1", f"sha384={digest.hex()}", "--json")
    assert document(made) == {"registers": {"rtmr1": {"sha384": expected}}}
    assert "prove nothing" in made.stderr
    assert run("read", "--rot", rot, "-r", "rtmr1").stdout == f"rtmr1:sha384 {expected}\n"
    assert list(document(run("read", "--rot", rot, "--json"))["registers"]) == ["mrtd", *(f"rtmr{n}" for n in range(4))]
    assert "no sha256 bank" in run("read", "--rot", rot, "--bank", "sha256", status=2).stderr
    assert "no register 'rtmr9'" in run("read", "--rot", rot, "-r", "rtmr9", status=2).stderr
    assert "cannot extend mrtd" in run("extend", "--rot", rot, "mrtd", f"sha384={digest.hex()}", status=1).stderr
    assert "known are tpm, tdx" in run("read", "--rot", "nobody", status=2).stderr
    assert "leave out --rot or --sysfs" in run("read", "--rot", rot, "--sysfs", "/sys", status=2).stderr
    for name in ("rtmr1", "9" * 5000):
        assert "is no PCR" in run("read", "-r", name, status=2).stderr


def test_a_td_and_a_tpm_are_used_by_name(tmp_path: Path, shared_swtpm: Swtpm) -> None:
    with guest(tmp_path, "tdx_guest") as td:
        rot = f"tdx:registers={td / 'measurements'}"
        made = document(run("extend", "--rot", rot, "rtmr2", f"sha384={'00' * 48}", "--json"))
        assert made["registers"]["rtmr2"]["sha384"] == SHA384.digest(bytes(96)).hex()
    tpm = f"tpm:{shared_swtpm.tcti}"
    read = document(run("read", "--rot", tpm, "-r", "10", "--bank", "sha256", "--json"))
    assert list(read["registers"]["10"]) == ["sha256"]
    assert read["update_counter"] >= 0
    left = run("extend", "--rot", tpm, "10", f"sha256={'00' * 32}", status=2).stderr
    assert "needs a digest for each bank; sha1, sha384, sha512 has none" in left


def test_the_choice_is_that_of_the_rfc_and_bypass_is_loud(tmp_path: Path) -> None:
    none = run("choose", "--json", status=4)
    assert document(none)["chosen"] is None
    assert [each["driver"] for each in document(none)["refused"]] == ["tpm", "tdx", "virtcca", "cca", "snp"]
    assert none.stderr.startswith("BYPASS: records are kept, NOTHING IS ANCHORED: ")
    known = run("choose", "tdx", status=4)
    assert (known.stdout, known.stderr.count("BYPASS")) == ("", 1)
    unknown = run("choose", "nobody", "--json", status=4)
    assert "unknown root of trust 'nobody'; known are tpm, tdx" in document(unknown)["bypass"]
    named = run("choose", f"software:{tmp_path / 'registers'}")
    assert named.stdout == "software: a list is anchored in register rtmr2\n"
    assert "prove nothing" in named.stderr
    with guest(tmp_path, "tdx_guest") as td:
        found = document(run("choose", f"tdx:rtmr3,registers={td / 'measurements'}", "--json"))
    assert found == {"chosen": "tdx", "register": "rtmr3", "bypass": None, "refused": []}


def test_registers_of_any_root_are_one_tree(tmp_path: Path, shared_swtpm: Swtpm) -> None:
    """The same commands, and so the same event logs and files, for a root of trust by its name."""
    log = ("--log", tmp_path / "logs")
    with guest(tmp_path, "tdx_guest") as td:
        provider = ("--provider", f"tdx:registers={td / 'measurements'}")
        run("append", "rtmr1", "an event", *provider, *log, command="registers")
        assert document(run("verify", "rtmr1", *provider, *log, "--json", command="registers"))["verdict"] == "pass"
    listed = document(run("list", "--provider", f"tpm:{shared_swtpm.tcti}", "--json", command="registers"))["registers"]
    assert len(listed) == 4 * 24
    assert {row["register"] for row in listed} >= {"10:sha1", "10:sha256", "16:sha512"}
    tpm = ("--provider", f"tpm:{shared_swtpm.tcti}", *log)
    refused = run("extend", "10:sha256", "00" * 32, *tpm, command="registers", status=2)
    assert "needs a digest for each bank" in refused.stderr
    assert "or a root of trust" in run("list", "--provider", "nobody:x", command="registers", status=2).stderr
