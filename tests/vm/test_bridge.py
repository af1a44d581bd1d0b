"""The bridge on a real kernel: IMA in a register that the kernel does not feed, and in its TPM, at once."""

import json
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest

from imarium.chain import ChainState, replay
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA384, by_name

SESSION = Path(__file__).with_name("bridge_session.py")


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bridge")


@pytest.fixture(scope="module")
def out(guest: Guest, guest_python: str, share: Path) -> dict[str, Any]:
    """What the session found, in one boot."""
    done = guest(f"{guest_python} {SESSION}", append="ima_policy=tcb", share=share, timeout=400)
    assert done.status == 0, done.console
    return dict(json.loads((share / "out.json").read_text()))


def extended(path: Path, initial: str) -> list[str]:
    """The register's value after each record, computed the plain way."""
    value = bytes.fromhex(initial)
    values = [initial]
    for record in read_records([path.read_bytes()], ListLayout()):
        digest = b"\xff" * SHA384.size if record.is_violation else SHA384.digest(record.data)
        value = SHA384.digest(value + digest)
        values.append(value.hex())
    return values


def pcr_prefix(path: Path, pcr10: dict[str, str]) -> int | None:
    """How many records the TPM's register covers."""
    targets = {IMA_PCR: {by_name(bank): bytes.fromhex(value) for bank, value in pcr10.items()}}
    return replay([path.read_bytes()], ListLayout(), targets=targets).matches.prefix


def test_it_came_through_twenty_kills_while_the_list_grew(out: dict[str, Any]) -> None:
    notes = out["notes"]
    assert notes == sorted(notes)
    assert len(set(notes)) > 5, "the bridge has to come further between the kills"
    assert out["good"]["count"] > out["count"] + 20, "programs have to run meanwhile"


def test_the_register_and_the_tpm_both_match_the_same_list(out: dict[str, Any], share: Path) -> None:
    path, good = share / "good", out["good"]
    assert out["initial"] != "00" * SHA384.size, "the device's register does not begin at zero"
    records = list(read_records([path.read_bytes()], ListLayout()))
    assert any(record.is_violation for record in records)
    values = extended(path, out["initial"])
    covered = values.index(good["rtmr1"])
    assert covered == out["caught_up"]["document"]["records"] > 0
    assert len(records) - covered < 5, "only what the end of the session itself opened may follow"
    assert pcr_prefix(path, good["pcr10"]) == good["count"] == len(records)


def test_the_command_verifies_the_exported_list(out: dict[str, Any], share: Path) -> None:
    assert out["good_verdict"]["status"] == 0
    document = out["good_verdict"]["document"]
    assert (document["verdict"], document["initial"]) == ("pass", out["initial"])
    assert document["covered"] == extended(share / "good", out["initial"]).index(out["good"]["rtmr1"])


def test_the_state_it_prints_starts_an_ordinary_replay(out: dict[str, Any], share: Path) -> None:
    start = ChainState.from_document(out["caught_up"]["document"]["start"])
    targets = {IMA_PCR: {SHA384: bytes.fromhex(out["good"]["rtmr1"])}}
    found = replay([(share / "good").read_bytes()], ListLayout(), [SHA384], start=start, targets=targets)
    assert found.matches.prefix == out["caught_up"]["document"]["records"]


def test_following_adds_nothing_to_the_list(out: dict[str, Any]) -> None:
    """Root's reads are measured: a bridge that read its notes would feed itself."""
    first, second, third, status = out["quiet"]
    assert first == second == third
    assert status == 0


def test_one_extend_behind_its_back_fails_the_register_and_not_the_tpm(out: dict[str, Any], share: Path) -> None:
    assert (out["refused"], out["bad_verdict"]["status"]) == (1, 1)
    assert (out["bad_verdict"]["document"]["verdict"], out["bad_verdict"]["document"]["covered"]) == ("fail", None)
    assert out["bad"]["rtmr1"] not in extended(share / "bad", out["initial"])
    behind = SHA384.digest(bytes.fromhex(out["good"]["rtmr1"]) + b"\x07" * SHA384.size).hex()
    assert out["bad"]["rtmr1"] == behind, "nothing was extended after it"
    assert pcr_prefix(share / "bad", out["bad"]["pcr10"]) == out["bad"]["count"]


def test_it_begins_anew_only_when_told(out: dict[str, Any], share: Path) -> None:
    assert out["again"]["status"] == 0
    document = out["again"]["document"]
    assert (document["begun"], document["initial"]) == (True, out["bad"]["rtmr1"])
    assert extended(share / "anew", out["bad"]["rtmr1"]).index(out["anew"]["rtmr1"]) == document["records"]


def test_a_drained_list_is_gone_on_with_from_the_store(out: dict[str, Any], share: Path) -> None:
    drained = out["drained"]
    assert drained["keep"]["status"] == 0
    assert drained["keep"]["document"]["freed"]["records"] > 0
    assert (drained["alone"], drained["untouched"]) == (1, True), "without the store the place is lost"
    assert drained["together"]["status"] == 0
    document = drained["together"]["document"]
    assert document["extended"] > 0
    values = extended(share / "whole", out["bad"]["rtmr1"])
    assert values.index(drained["value"]) == document["records"]
