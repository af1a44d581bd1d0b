"""Resume states and their JSON form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import BANKS, SIZES

from imarium.chain import ChainState
from imarium.errors import MalformedInput, UsageError
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, by_name

DOCUMENT: dict[str, Any] = {
    "type": "imarium-state",
    "version": 1,
    "records": 1200,
    "registers": {"10": {"sha1": "0a" * 20, "sha256": "0b" * 32}},
}


def changed(**members):
    return {**DOCUMENT, **members}


def test_the_form_of_the_document():
    state = ChainState.from_document(DOCUMENT)
    assert state == ChainState(1200, {PcrIndex(10): {SHA1: b"\n" * 20, SHA256: b"\v" * 32}})
    assert state.to_document() == DOCUMENT
    assert ChainState.from_document(changed(learned={"x": 1})) == state


values = st.sampled_from(BANKS).flatmap(
    lambda bank: st.tuples(st.just(by_name(bank)), st.binary(min_size=SIZES[bank], max_size=SIZES[bank]))
)
states = st.builds(
    ChainState,
    st.integers(0, (1 << 62) - 1),
    st.dictionaries(st.integers(0, 63).map(PcrIndex), st.lists(values, min_size=1, max_size=4).map(dict), max_size=5),
)


@given(states)
def test_states_go_through_json(state):
    assert ChainState.from_document(json.loads(json.dumps(state.to_document()))) == state


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "state",
        {},
        changed(type="other"),
        changed(version=2),
        changed(version=None),
        changed(records=-1),
        changed(records=1 << 62),
        changed(records=True),
        changed(records=1.5),
        changed(records="1"),
        changed(registers=None),
        changed(registers=[]),
        changed(registers={"64": DOCUMENT["registers"]["10"]}),
        changed(registers={"000000000012345": DOCUMENT["registers"]["10"]}),
        changed(registers={"0" * 5000: DOCUMENT["registers"]["10"]}),
        changed(registers={"010": DOCUMENT["registers"]["10"]}),
        changed(registers={"-1": DOCUMENT["registers"]["10"]}),
        changed(registers={"": DOCUMENT["registers"]["10"]}),
        changed(registers={"\u0661": DOCUMENT["registers"]["10"]}),
        changed(registers={"10": {}}),
        changed(registers={"10": []}),
        changed(registers={"10": {"sha9": "00"}}),
        changed(registers={"10": {"sm3_256": "00" * 32, "sm3": "11" * 32}}),
        changed(registers={"10": {"sha1": "00" * 19}}),
        changed(registers={"10": {"sha1": "zz" * 20}}),
        changed(registers={"10": {"sha1": 5}}),
        changed(registers={"10": {"sha1": None}}),
    ],
)
def test_what_is_no_state_is_refused(document):
    with pytest.raises(MalformedInput, match=r"^state: at byte 0: expected") as caught:
        ChainState.from_document(document)
    assert "\n" not in str(caught.value)


def test_a_register_it_does_not_name_has_its_initial_value():
    state = ChainState.from_document(DOCUMENT)
    assert state.value(PcrIndex(11), SHA256) == bytes(32)
    assert state.value(PcrIndex(17), SHA256) == b"\xff" * 32
    assert state.value(PcrIndex(10), SHA256) == b"\v" * 32
    with pytest.raises(UsageError, match="register 10 in sha1, sha256 only, not in sha512"):
        state.value(PcrIndex(10), by_name("sha512"))


def test_its_banks_are_those_every_register_has():
    both = {SHA1: bytes(20), SHA256: bytes(32)}
    assert ChainState(1, {PcrIndex(10): both, PcrIndex(11): {SHA256: bytes(32)}}).banks == (SHA256,)
    assert ChainState(1, {PcrIndex(10): both}).banks == (SHA1, SHA256)
    assert ChainState().banks == ()
