"""``imarium attest`` and ``imarium verify`` as programs: exit status, one-line errors, and when a state is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.real.commands import Done, imarium
from tests.real.measured import MIXED, NONCE, Measured, programs
from tests.unit.builders import binary

from imarium.formats.evidence import Evidence

if TYPE_CHECKING:
    from tests.real.conftest import Swtpm


@dataclass(frozen=True)
class Desk:
    """A machine, and a verifier's directory with its key in it."""

    machine: Measured
    path: Path

    def evidence(self, name: str = "evidence", **given: Any) -> Path:
        file = self.path / name
        file.write_bytes(self.machine.attest(**given).encode())
        return file

    def verify(self, evidence: Path, *arguments: object, nonce: bytes = NONCE) -> Done:
        return imarium("verify", evidence, "--nonce", nonce.hex(), "--ak", self.path / "ak.pub", *arguments)


@pytest.fixture
def desk(swtpm: Swtpm, tmp_path: Path) -> Desk:
    machine = Measured.start(swtpm)
    machine.boot()
    machine.measure(MIXED)
    (tmp_path / "ak.pub").write_bytes(machine.key.public)
    return Desk(machine, tmp_path)


def test_a_pass_writes_the_state_and_goes_on_from_it(desk: Desk) -> None:
    state = desk.path / "state.json"
    first = desk.verify(desk.evidence(later=programs("/later")), "--state", state, "--json")
    assert (first.status, first.error) == (0, "")
    assert set(first.document) == {"verdict", "reasons", "covered", "unverified", "begins", "boot_aggregate", "state"}
    assert first.document["verdict"] == "pass"
    assert [first.document[name] for name in ("reasons", "covered", "unverified")] == [[], 12, 1]
    assert json.loads(state.read_text()) == first.document["state"]
    desk.machine.measure(programs("/second"))
    second = desk.verify(desk.evidence(first=12), "--state", state, "--json", "--register", 11)
    assert (second.status, second.document["covered"]) == (0, 1)
    assert json.loads(state.read_text())["records"] == 13
    assert sorted(path.name for path in desk.path.iterdir()) == ["ak.pub", "evidence", "state.json"]


def test_a_fail_leaves_the_state_alone(desk: Desk) -> None:
    state = desk.path / "state.json"
    missing = desk.verify(desk.evidence(), "--state", state, "--json", nonce=b"another nonce")
    assert (missing.status, missing.codes, missing.document["state"]) == (1, ["nonce_mismatch"], None)
    assert not state.exists()
    assert desk.verify(desk.evidence(), "--state", state).status == 0
    before = state.read_bytes()
    assert desk.verify(desk.evidence(first=5), "--state", state, "--json").codes == ["state_position"]
    (desk.path / "short").write_bytes(desk.evidence().read_bytes()[:-5])
    short = desk.verify(desk.path / "short", "--state", state, "--json")
    assert (short.status, short.codes) == (3, ["evidence_truncated"])
    told = desk.verify(desk.path / "short", "--state", state)
    assert (told.status, told.out, told.error.count("\n")) == (3, "", 1)
    assert told.error.endswith("(evidence_truncated)\n")
    assert state.read_bytes() == before


def test_reasons_are_objects_with_code_record_and_detail(desk: Desk) -> None:
    evidence = Evidence.decode(desk.evidence().read_bytes())
    place = evidence.log.records.index(b"/usr/bin/env") + 4
    data = bytearray(evidence.encode())
    data[data.index(evidence.log.records) + place] ^= 1
    (desk.path / "changed").write_bytes(data)
    done = desk.verify(desk.path / "changed", "--json")
    assert done.status == 1
    (reason,) = done.document["reasons"]
    assert set(reason) == {"code", "record", "detail"}
    assert (reason["code"], reason["record"]) == ("record_altered", 7)
    told = desk.verify(desk.path / "changed")
    assert told.status == 1
    assert told.out.startswith("fail: 1 reason\n  record_altered: record 7: ")
    assert told.out.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["EVIDENCE", "--ak", "AK"], 2, "--nonce"),
        (["EVIDENCE", "--nonce", "00"], 2, "name the attestation key you trust with --ak"),
        (["EVIDENCE", "--nonce", "xyz", "--ak", "AK"], 2, "not hexadecimal"),
        (["EVIDENCE", "--nonce", "", "--ak", "AK"], 2, "the nonce is empty"),
        (["EVIDENCE", "--nonce", "00", "--ak", "AK", "--register", "24"], 2, "no register 24"),
        (["nothere", "--nonce", "00", "--ak", "AK"], 4, "nothere: No such file"),
        (["EVIDENCE", "--nonce", "00", "--ak", "nothere"], 4, "nothere: No such file"),
        (["EVIDENCE", "--nonce", "00", "--ak", "EVIDENCE"], 3, "the AK's TPM2B_PUBLIC (ak.pub)"),
        (["EVIDENCE", "--nonce", "00", "--ak", "PEM"], 3, "which does not say that the key is restricted"),
        (["EVIDENCE", "--nonce", "00", "--ak", "AK", "--state", "AK"], 3, "UTF-8"),
        (["EVIDENCE", "--nonce", "00", "--ak", "AK", "--state", "NULL"], 3, "imarium-state"),
        (["EVIDENCE", "--nonce", "00", "--ak", "AK", "--state", "OBJECT"], 3, "imarium-state"),
    ],
)
def test_errors_are_one_line_with_their_status(desk: Desk, arguments: list[str], status: int, said: str) -> None:
    desk.evidence()
    (desk.path / "pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    (desk.path / "object").write_text("{}")
    (desk.path / "null").write_text("null")
    names = {"EVIDENCE": "evidence", "AK": "ak.pub", "PEM": "pem", "OBJECT": "object", "NULL": "null"}
    done = imarium("verify", *(desk.path / names[given] if given in names else given for given in arguments))
    assert done.status == status
    assert done.out == ""
    assert done.error.startswith("imarium: ")
    assert done.error.count("\n") == 1
    assert said in done.error


def test_a_state_that_cannot_be_written_is_an_error_before_any_verdict(desk: Desk) -> None:
    done = desk.verify(desk.evidence(), "--state", desk.path / "no" / "state.json")
    assert (done.status, done.out) == (4, "")


def test_a_state_that_is_there_and_cannot_be_read_is_not_taken_for_none(desk: Desk) -> None:
    state = desk.path / "state.json"
    state.symlink_to(desk.path / "unmounted" / "state.json")
    done = desk.verify(desk.evidence(), "--state", state)
    assert (done.status, done.out) == (4, "")
    assert state.is_symlink()


def test_attest_makes_what_verify_accepts(desk: Desk) -> None:
    """From a directory of list files, as custody reads them; the key is made on the way."""
    lists, store = desk.path / "lists", desk.path / "store"
    lists.mkdir()
    (lists / "binary_runtime_measurements").write_bytes(binary(desk.machine.records))
    common = ("--store", store, "--source", lists, "--tcti", desk.machine.swtpm.tcti)
    kept = imarium("keep", "--once", "--method", "follow", "--store", store, "--source", lists)
    assert kept.status == 0, kept.error
    made = imarium("attest", "--nonce", NONCE.hex(), "-o", desk.path / "made", "--json", *common)
    assert made.status == 0, made.error
    size = (desk.path / "made").stat().st_size
    assert made.document == {
        "nonce": NONCE.hex(),
        "first": 0,
        "records": 12,
        "bytes": size,
        "output": str(desk.path / "made"),
    }
    ak = store / "ak" / "ak.pub"
    done = imarium("verify", desk.path / "made", "--nonce", NONCE.hex(), "--ak", ak, "--json")
    assert (done.status, done.document["covered"]) == (0, 12)
    beyond = imarium("attest", "--nonce", NONCE.hex(), "--from", 13, "-o", desk.path / "x", *common)
    assert (beyond.status, (desk.path / "x").exists()) == (2, False)
    assert "the log has 12 records" in beyond.error
