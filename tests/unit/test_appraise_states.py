"""Appraisal from a remembered state on, of evidence signed by a key made here."""

from dataclasses import replace

import pytest
from tests.unit.appraise_builders import LOG, QUOTED, codes, evidence, state_after
from tests.unit.builders import ng

from imarium.chain import ChainState
from imarium.errors import MalformedInput
from imarium.formats.evidence import ListPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.verifier import VerifierState


def test_registers_of_the_state_have_to_be_quoted() -> None:
    state = state_after(4)
    rest = [*LOG, ng(b"/e")]
    narrow = evidence(rest, first=4, pcrs=QUOTED[:11])
    assert codes(narrow, state) == ["selection_mismatch", "selection_mismatch"]
    assert codes(evidence(rest, first=4), state) == []


def test_states_in_other_banks() -> None:
    state = state_after(4)
    banks = {pcr: {SHA384: bytes(48)} for pcr in state.chain.values}
    foreign = replace(state, chain=ChainState(4, banks))
    assert codes(evidence(LOG, first=4), foreign) == ["state_banks"]
    assert codes(evidence(LOG), foreign) == ["state_other_values"]
    assert codes(evidence(LOG), replace(state, chain=ChainState(4, {}))) == ["state_banks"]
    split = {IMA_PCR: {SHA256: bytes(32)}, PcrIndex(11): {SHA1: bytes(20)}}
    assert codes(evidence(LOG), replace(state, chain=ChainState(4, split))) == ["state_banks"]


def test_states_written_before_there_were_kinds_stay_good() -> None:
    state = state_after(4)
    document = state.to_document()
    log = document["log"]
    assert isinstance(log, dict)
    assert set(log) == {"kind", "root", "resets", "clock", "begins"}
    old = {"ak": log["root"], "reset_count": log["resets"], "clock": log["clock"], "begins": log["begins"]}
    assert VerifierState.from_document({**document, "log": old}) == state
    assert VerifierState.from_document(document) == state
    assert codes(evidence(LOG, first=4), VerifierState.from_document({**document, "log": old})) == []


@pytest.mark.parametrize(
    "change",
    [{"kind": 1}, {"kind": ""}, {"root": "x"}, {"root": ""}, {"resets": -1}, {"clock": True}, {"begins": None}],
)
def test_states_that_are_none(change: dict[str, object]) -> None:
    document = state_after(4).to_document()
    log = document["log"]
    assert isinstance(log, dict)
    with pytest.raises(MalformedInput):
        VerifierState.from_document({**document, "log": {**log, **change}})


def test_a_state_of_another_ak() -> None:
    state = state_after(4)
    other = replace(state, log=replace(state.log, root=b"\x00\x0b" + bytes(32)))
    assert codes(evidence(LOG, first=4), other) == ["state_other_ak"]
    assert codes(evidence(LOG), other) == ["state_other_ak"]


def test_a_log_shorter_than_the_state() -> None:
    state = state_after(5)
    assert codes(evidence(LOG[:3]), state) == ["records_removed"]
    assert codes(evidence(LOG, later=3), state) == ["records_removed"]
    assert codes(evidence(LOG[:3], first=3), state) == ["state_position"]
    assert codes(replace(evidence(LOG), log=ListPart(0, 0, ListLayout(), b"")), state) == ["list_empty"]


def test_the_clock_may_stand_still_but_not_go_back() -> None:
    state = state_after(5)
    assert codes(evidence(LOG, first=5, clock=1000), state) == []
    assert codes(evidence(LOG, first=5, clock=999), state) == ["clock_rollback"]
    assert codes(evidence(LOG, first=5, resets=8), state) == ["state_reset"]
    assert codes(evidence(LOG, first=5, resets=8, clock=999), state) == ["state_reset"]
