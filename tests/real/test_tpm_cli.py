"""``imarium rot`` as people and programs run it, on swtpm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imarium.formats.pcrs import parse_pcrread
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import parse_attest, parse_public
from imarium.hashes import SHA1, SHA256

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.conftest import Swtpm

    Run = Callable[..., subprocess.CompletedProcess[str]]

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def run(shared_swtpm: Swtpm) -> Run:
    """Runs ``imarium rot`` with these arguments and the module's TPM in the environment."""

    def command(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TSS2_", "TPM2"))}
        clean |= {"PYTHONPATH": str(SOURCE), "IMARIUM_TCTI": shared_swtpm.tcti, **environment}
        finished = subprocess.run(
            [sys.executable, "-m", "imarium", "rot", *map(str, arguments)],
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert finished.returncode == status, finished.stderr
        if status:
            assert finished.stdout == ""
            assert finished.stderr.startswith("imarium: ")
            assert finished.stderr.count("\n") == 1
        return finished

    return command


def document(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads(finished.stdout)
    assert isinstance(found, dict)
    return found


def test_list_says_what_is_there_and_why_not(run: Run) -> None:
    driver, *others = document(run("list", "--json"))["drivers"]
    assert [other["name"] for other in others] == ["tdx", "virtcca", "cca", "snp", "tsm", "software"]
    assert driver == {
        "name": "tpm",
        "summary": "TPM 2.0",
        "automatic": True,
        "kind": "tpm",
        "default_register": "10",
        "extensible": True,
        "available": True,
        "detail": None,
        "banks": ["sha1", "sha256", "sha384", "sha512"],
        "unknown_banks": [],
    }
    driver, *_ = document(run("list", "--json", "--tcti", "swtpm:host=127.0.0.1,port=1"))["drivers"]
    assert driver["available"] is False
    assert "no TPM answers" in driver["detail"]
    assert "not available: no TPM answers" in run("list", "--tcti", "swtpm:host=127.0.0.1,port=1").stdout


def test_read_prints_what_replay_reads(run: Run) -> None:
    values = parse_pcrread(run("read").stdout)
    assert len(values) == 24
    assert len(values[PcrIndex(10)]) == 4
    chosen = document(run("read", "--register", 10, "-r", 0, "--bank", "sha256", "--json"))
    assert chosen["registers"] == {
        str(index): {"sha256": values[index][SHA256].hex()} for index in map(PcrIndex, (0, 10))
    }
    assert chosen["update_counter"] > 0


def test_extend_changes_the_banks_it_names(run: Run) -> None:
    before = document(run("read", "-r", 12, "--json"))
    digest = SHA256.digest(b"event")
    after = document(run("extend", 12, f"sha256={digest.hex()}", "--json"))
    old = bytes.fromhex(before["registers"]["12"]["sha256"])
    assert after["registers"]["12"]["sha256"] == SHA256.digest(old + digest).hex()
    assert after["registers"]["12"]["sha1"] == before["registers"]["12"]["sha1"]
    assert after["not_extended"] == ["sha1", "sha384", "sha512"]
    assert after["update_counter"] == before["update_counter"] + 1
    warned = run("extend", 12, f"sha256={digest.hex()}", f"sha1={SHA1.digest(b'event').hex()}")
    assert "not extended: sha384, sha512" in warned.stderr


def test_an_attestation_key_is_made_once_and_then_shown(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "ak"
    made = document(run("ak", directory, "--json"))
    assert (made["created"], made["key"], made["scheme"], made["handle"]) == (True, "ecc", "ecdsa", None)
    assert parse_public((directory / "ak.pub").read_bytes()).name.hex() == made["name"]
    again = document(run("ak", directory, "--json", IMARIUM_TCTI="swtpm:host=127.0.0.1,port=1"))
    assert again == {**made, "created": False}
    assert made["name"] in run("ak", directory).stdout
    assert "choose another directory" in run("ak", directory, "--key", "rsa", status=1).stderr
    rsa = document(run("ak", tmp_path / "rsa", "--scheme", "rsapss", "--parent", "rsa", "--json"))
    assert (rsa["key"], rsa["scheme"]) == ("rsa", "rsapss")
    kept = document(run("ak", tmp_path / "kept", "--persistent", "0x81010005", "--json"))
    assert kept["handle"] == "0x81010005"


def test_a_quote_is_written_with_all_a_verifier_needs(run: Run, tmp_path: Path) -> None:
    run("ak", tmp_path / "ak")
    output = tmp_path / "quote"
    made = document(run("quote", "--nonce", "00ff" * 16, "--ak", tmp_path / "ak", "-o", output, "--json"))
    attest = parse_attest((output / "quote.msg").read_bytes())
    assert attest.extra_data.hex() == "00ff" * 16
    assert made["attest"] == (output / "quote.msg").read_bytes().hex()
    assert sorted(path.name for path in output.iterdir()) == ["ak.pub", "pcrs.txt", "quote.msg", "quote.sig"]
    values = parse_pcrread((output / "pcrs.txt").read_text())
    assert {index: {bank.name: value.hex() for bank, value in banks.items()} for index, banks in values.items()} == {
        int(index): banks for index, banks in made["registers"].items()
    }
    finished = subprocess.run(
        ["tpm2_checkquote", "-u", "ak.pub", "-m", "quote.msg", "-s", "quote.sig", "-q", "00ff" * 16],
        cwd=output,
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0
    assert "the nonce is empty" in run("quote", "--nonce", "", "--ak", tmp_path / "ak", "-o", output, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["read", "--bank", "sm3"], 2, "this TPM has no sm3 bank"),
        (["read", "--bank", "rot13"], 2, "unknown hash algorithm"),
        (["read", "--register", "24"], 2, "there is no register 24"),
        (["read", "--tcti", "carrier-pigeon"], 2, "unknown TCTI"),
        (["read", "--tcti", "swtpm:host=127.0.0.1,port=1"], 4, "no TPM answers"),
        (["read", "--tcti", "device:/nonexistent/tpm"], 4, "there is no /nonexistent/tpm"),
        (["read", "--sysfs", "/nonexistent"], 4, "the kernel shows no PCRs"),
        (["extend", "10", "sha256"], 2, "is not BANK=HEX"),
        (["extend", "10", "sha256=zz"], 2, "is not hexadecimal"),
        (["extend", "10", "sha256=00"], 2, "a sha256 digest has 32 bytes, not 1"),
        (["extend", "18", "sha1=" + "00" * 20], 4, "TPM2_PCR_Extend of PCR 18"),
        (["quote", "--nonce", "00", "--ak", "/nonexistent", "--json"], 4, "imarium rot ak DIR"),
        (["quote", "--nonce", "00", "--ak", "/nonexistent"], 2, "give -o DIR, or --json"),
        (["quote", "--nonce", "0", "--ak", "/nonexistent", "--json"], 2, "is not hexadecimal"),
        (["ak", "/nonexistent/parent/ak"], 4, "is not there; make it first"),
        (["ak", "ak", "--key", "ecc", "--scheme", "rsapss"], 2, "cannot sign rsapss"),
        (["ak", "ak", "--persistent", "81010002"], 2, "is not a handle"),
        (["ak", "ak", "--persistent", "0x40000001"], 2, "no persistent handle of the owner's"),
    ],
)
def test_mistakes_end_in_one_line_and_a_status(run: Run, arguments: list[str], status: int, message: str) -> None:
    assert message in run(*arguments, status=status).stderr


def test_a_file_that_is_no_directory_is_not_taken_for_a_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ak").write_bytes(b"")
    assert "choose another" in run("ak", tmp_path / "ak", status=1).stderr
