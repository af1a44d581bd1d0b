"""Evidence files: one encoding, read to the last byte, and everything else refused."""

import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import BANKS, SIZES, binary, ng

from imarium.formats.evidence import Evidence, ListPart, MalformedEvidence, TpmPart
from imarium.formats.records import ListLayout
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, by_name

VALUES = {SHA1: {PcrIndex(10): b"\1" * 20}, SHA256: {PcrIndex(2): b"\2" * 32, PcrIndex(10): b"\3" * 32}}
PART = TpmPart(b"quote", b"signature", b"key", VALUES)
LOG = ListPart(5, 1, ListLayout(), binary([ng(b"/x")]))
SAMPLE = Evidence(PART, LOG)
BIG = 1 << 40000

banks = st.dictionaries(st.sampled_from(BANKS), st.sets(st.integers(0, 63), min_size=1, max_size=4), min_size=1)
evidences = banks.flatmap(
    lambda chosen: st.builds(
        Evidence,
        st.builds(
            TpmPart,
            st.binary(max_size=100),
            st.binary(max_size=100),
            st.binary(max_size=100),
            st.just({by_name(b): {PcrIndex(p): bytes([p]) * SIZES[b] for p in sorted(ps)} for b, ps in chosen.items()}),
        ),
        st.builds(
            ListPart,
            st.integers(0, (1 << 62) - 1),
            st.integers(0, (1 << 62) - 1),
            st.builds(ListLayout, st.sampled_from(BANKS).map(by_name), st.sampled_from(["little", "big"])),
            st.binary(max_size=200),
        ),
    )
)


def document() -> Any:
    return cbor2.loads(SAMPLE.encode())


def replaced(path: str, value: object) -> bytes:
    whole = document()
    *parents, last = path.split(".")
    container = whole
    for name in parents:
        container = container[name]
    container[last] = value
    return cbor2.dumps(whole, canonical=True)


@given(evidences)
def test_evidence_goes_both_ways(evidence):
    assert Evidence.decode(evidence.encode()) == evidence


def test_every_truncation_says_so():
    data = SAMPLE.encode()
    for end in range(len(data)):
        with pytest.raises(MalformedEvidence) as caught:
            Evidence.decode(data[:end])
        assert caught.value.fault == "truncated"
        assert caught.value.offset == end


def test_what_follows_the_end_says_so():
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.decode(SAMPLE.encode() + b"\0\0")
    assert (caught.value.fault, caught.value.offset) == ("trailing", len(SAMPLE.encode()))


@pytest.mark.parametrize(
    "value",
    [BIG, -BIG, [BIG], {1: BIG}, None, True, 1.5, "x" * 100000, [[[[[[1]]]]]]],
    ids=["big", "negative", "list", "map", "none", "true", "float", "text", "deep"],
)
@pytest.mark.parametrize(
    "path",
    [
        *("type", "version", "root", "list", "root.kind", "root.quote", "root.ak", "root.values", "root.values.sha1"),
        *("root.values.sha1.10", "list.first", "list.count", "list.digest", "list.byte_order", "list.records"),
    ],
)
def test_members_of_another_kind_are_refused_in_one_line(path, value):
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.decode(replaced(path, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("more", 1),
        ("type", "other"),
        ("version", 2),
        ("root.kind", "tdx"),
        ("root.quote", bytes(5000)),
        ("root.values", {}),
        ("root.values", {"sha9": {"10": bytes(20)}}),
        ("root.values", {"md5": {"10": bytes(16)}}),
        ("root.values", {"sha1": {}}),
        ("root.values", {"sha1": {"64": bytes(20)}}),
        ("root.values", {"sha1": {"010": bytes(20)}}),
        ("root.values", {"sha1": {"01": bytes(20)}}),
        ("root.values", {"sha1": {10: bytes(20)}}),
        ("root.values", {"sha1": {"10": bytes(19)}}),
        ("root.values", {"SHA1": {"10": bytes(20)}}),
        ("list.first", -1),
        ("list.first", 1 << 62),
        ("list.byte_order", "middle"),
        ("list.digest", "sha257"),
    ],
)
def test_members_that_make_no_sense_are_refused(path, value):
    with pytest.raises(MalformedEvidence):
        Evidence.decode(replaced(path, value))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x1c",
        b"\xa1\x61\xff\x00",
        b"\xbf\xff",
        b"\xa2\x01\x01\x01\x02",
        b"\xa1\x80\x00",
        b"\x81" * 100 + b"\x00",
        cbor2.dumps(document()) if cbor2.dumps(document()) != SAMPLE.encode() else b"\xf6",
        cbor2.dumps({**document(), "version": True}, canonical=True),
        cbor2.dumps({**document(), "version": 1.0}, canonical=True),
        *(bytes([0xC0 | tag]) + b"\x61x" for tag in range(8)),
        b"\xd8\x23\x61(",
        b"\xd8\x24\x61x",
        b"\xd8\x1e\x82\x01\x00",
        b"\xd8\x1d\x00",
        b"\xd9\x01\x04\x41x",
        b"\xd9\x03\xec\x61x",
        b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_other_cbor_is_refused(data):
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.decode(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "head", ["9bffffffffffffffff", "5bffffffffffffffff", "bb7fffffffffffffff", "7b0000010000000000"]
)
def test_memory_is_bounded_by_the_input_not_by_its_lengths(head):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedEvidence):
            Evidence.decode(bytes.fromhex(head))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@given(st.binary(max_size=200))
def test_anything_at_all_is_refused_as_ours(data):
    with pytest.raises(MalformedEvidence):
        Evidence.decode(data)
