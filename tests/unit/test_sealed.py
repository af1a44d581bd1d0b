"""Documents with a checksum: what was not written so is told, whatever it is, and so are members of another type."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import flipped

from imarium.errors import MalformedInput
from imarium.formats.sealed import seal, unseal
from imarium.hashes import SHA256
from imarium.registers import Access, FileRegisters, Register
from imarium.registers.mark import read_mark
from imarium.rot.anchor_state import read_state
from imarium.rot.bridge_state import StateFile

BODY = {"a": 1, "b": "two", "c": [True, None]}
REGISTER = Register("r0", SHA256.size, SHA256, Access.RTMR | Access.W)
WRONG: list[object] = [None, 1, -1, "x", "0" * 5000, [], [[]], {}, {"a": 1}, True]


def test_a_document_reads_back_without_its_checksum() -> None:
    assert unseal(seal(BODY)) == unseal(seal(BODY, indent=1)) == BODY
    assert unseal(seal(BODY).ljust(512)) == BODY


def test_no_changed_bit_is_believed() -> None:
    for bit, bad in flipped(seal(BODY)):
        assert unseal(bad) is None, bit


@given(st.binary(max_size=64))
def test_any_bytes_are_no_document(data: bytes) -> None:
    assert unseal(data) is None


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN", "1.0", "9" * 5000])
def test_numbers_that_are_not_whole_are_no_document(number: str) -> None:
    assert unseal(b'{"size": %s, "sha256": ""}' % number.encode()) is None


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[]", b"1", b'"x"'])
def test_deep_or_other_documents_are_none(data: bytes) -> None:
    assert unseal(data) is None


@pytest.mark.parametrize("member", ["size", "value", "in_step"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_forged_mark_is_no_mark_or_a_mark(tmp_path, member, wrong) -> None:
    path = tmp_path / "mark"
    path.write_bytes(seal({"size": 1, "value": "00", "in_step": True} | {member: wrong}))
    mark = read_mark(path)
    assert mark is None or (mark.size >= 0 and isinstance(mark.value, bytes))


@pytest.mark.parametrize("member", ["number", "position", "initial", "value", "pending", "error"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_forged_position_never_raises(tmp_path, member, wrong) -> None:
    values = {"sha256": "00" * 32}
    body = {"number": 1, "life": "x", "position": 1, "initial": values, "value": values, "pending": None, "error": None}
    (tmp_path / "anchor").write_bytes(seal(body | {member: wrong}))
    state = read_state(tmp_path / "anchor")
    assert state is None or (isinstance(state.position, int) and isinstance(state.number, int))


@pytest.mark.parametrize("member", ["records", "initial", "value", "tail"])
@pytest.mark.parametrize("wrong", [None, "x", "0" * 5000, [[]], {"a": 1}, 17])
def test_a_forged_note_of_a_bridge_is_malformed(tmp_path, member, wrong) -> None:
    place = StateFile(tmp_path, FileRegisters(tmp_path / "registers"), REGISTER)
    value = "00" * SHA256.size
    body = {"format": "imarium bridge 1", "boot_id": "x", "initial": value, "records": 0, "value": value, "tail": []}
    place.path.write_bytes(seal(body))
    assert place.load() is not None
    place.path.write_bytes(seal(body | {member: wrong}))
    with pytest.raises(MalformedInput, match="--begin"):
        place.load()


@pytest.mark.parametrize("member", ["name", "size", "hash", "access", "value"])
@pytest.mark.parametrize("wrong", [None, "\n", "0" * 5000, [], {}])
def test_forged_registers_are_malformed(tmp_path, member, wrong) -> None:
    path = tmp_path / "registers"
    FileRegisters.create(path, [REGISTER])
    body = unseal(path.read_bytes())
    assert body is not None
    body["registers"][0][member] = wrong
    path.write_bytes(seal(body))
    with pytest.raises(MalformedInput):
        FileRegisters(path).registers()


def test_the_checksum_is_over_the_other_members() -> None:
    document = json.loads(seal(BODY))
    assert unseal(json.dumps(document | {"a": 2}).encode()) is None
    assert unseal(json.dumps(dict(reversed(document.items()))).encode()) == BODY
