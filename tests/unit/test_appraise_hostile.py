"""Appraisal of hostile input: whatever the bytes, there is a verdict, and it costs little."""

import tracemalloc
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.appraise_builders import BOOT, LOG, ask, codes, evidence
from tests.unit.builders import Made, binary

from imarium.formats.evidence import ListPart
from imarium.formats.records import ListLayout

HOSTILE: dict[str, bytes] = {
    "deep arrays": b"\x81" * 100_000,
    "deep maps": b"\xa1\x61a" * 100_000,
    "deep tags": b"\xc1" * 100_000 + b"\0",
    "a million arrays": b"\x9a\x00\x0f\x42\x40" + b"\x80" * 1_000_000,
    "many maps": b"\xb9\xff\xff" + b"\x61a\xa0" * 0xFFFF,
    "indefinite map": b"\xbf\xff",
    "indefinite bytes": b"\x5f\x41a\xff",
    "reserved length": b"\xbc",
    "break": b"\xff",
    "twice the same key": b"\xa2\x61a\x01\x61a\x01",
    "bytes and text keys": b"\xa2\x61a\x01\x41a\x01",
    "bignum": b"\xc2\x58\xff" + b"\xff" * 255,
    "big decimal": b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
    "big float": b"\xc5\x82\x1a\x3f\xff\xff\xff\x01",
    "division by zero": b"\xd8\x1e\x82\x01\x00",
    "regular expression": cbor2.dumps(cbor2.CBORTag(35, "(" * 20_000 + ")" * 20_000)),
    "mail message": cbor2.dumps(cbor2.CBORTag(36, "Content-Type: multipart/mixed; boundary=x\n\n" + "--x\n" * 50_000)),
    "date": cbor2.dumps(cbor2.CBORTag(0, "x")),
    "set": b"\xd9\x01\x02\x81\x41a",
    "value that holds itself": b"\xd8\x1c\xa1\x61a\xd8\x1d\x00",
    "string reference": b"\xd9\x01\x00\xa1\x61a\xd8\x19\x00",
    "bad UTF-8": b"\xa1\x62\xff\xff\x00",
    "simple value": b"\xf8\xff",
    "not a number": b"\xf9\x7e\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cbor_is_malformed_and_costs_little(name: str) -> None:
    tracemalloc.start()
    try:
        assert codes(HOSTILE[name]) == ["evidence_malformed"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("head", [0x5A, 0x5B, 0x7A, 0x7B, 0xBA, 0xBB])
def test_lengths_that_are_not_there_cost_nothing(head: int) -> None:
    size = 8 if head & 1 else 4
    for prefix in (b"", b"\xa1\x64list", b"\xa1\x64list\xa1\x67records"):
        tracemalloc.start()
        try:
            assert codes(prefix + bytes([head]) + b"\xff" * size) == ["evidence_truncated"]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000


def document() -> Any:
    return cbor2.loads(evidence(LOG).encode())


@pytest.mark.parametrize("member", ["first", "count"])
@pytest.mark.parametrize("value", [True, 5.0, -1, 1 << 62, 1 << 64, 1 << 4000, "5", None])
def test_counts_that_are_none(member: str, value: object) -> None:
    changed = document()
    changed["list"][member] = value
    assert codes(cbor2.dumps(changed, canonical=True)) == ["evidence_malformed"]


def test_other_encodings_of_the_same_are_malformed() -> None:
    good = evidence(LOG).encode()
    assert codes(good) == []
    assert codes(cbor2.dumps(dict(reversed(document().items())))) == ["evidence_malformed"]
    assert codes(good.replace(b"\x67version\x01", b"\x67version\x18\x01")) == ["evidence_malformed"]
    assert codes(good.replace(b"\x65count\x05", b"\x65count\x19\x00\x05")) == ["evidence_malformed"]
    renamed = document()
    renamed["list"]["digest"] = "SHA1"
    assert codes(cbor2.dumps(renamed, canonical=True)) == ["evidence_malformed"]
    values = document()
    values["root"]["values"]["sha1"]["010"] = values["root"]["values"]["sha1"].pop("10")
    assert codes(cbor2.dumps(values, canonical=True)) == ["evidence_malformed"]


leaves = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.binary(max_size=40),
    st.text(max_size=12),
    st.booleans(),
    st.none(),
    st.floats(),
)
items = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(items)
def test_any_cbor_gets_a_verdict(item):
    (code,) = codes(cbor2.dumps(item))
    assert code.startswith("evidence_")


PATHS = [
    ("type",), ("version",), ("root",), ("list",),
    *(("root", name) for name in ("kind", "quote", "signature", "ak", "values")),
    *(("list", name) for name in ("first", "count", "digest", "byte_order", "records")),
]  # fmt: skip


@settings(max_examples=100)
@given(st.sampled_from(PATHS), items)
def test_any_member_replaced_gets_a_verdict(path, item):
    changed = document()
    container = changed
    for name in path[:-1]:
        container = container[name]
    if container[path[-1]] == item:
        return
    container[path[-1]] = item
    assert not ask(cbor2.dumps(changed, canonical=True)).passed


@given(st.binary(max_size=400))
def test_any_records_get_a_verdict(data):
    given = replace(evidence(LOG), log=ListPart(0, 5, ListLayout(), data))
    assert not ask(given).passed


def test_memory_stays_near_the_size_of_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are read in blocks, not held as objects."""
    monkeypatch.setattr("imarium.verifier.diagnose.WINDOW", 10)
    monkeypatch.setattr("imarium.verifier.listed._BLOCK", 1 << 14)
    count = 10_000
    part = ListPart(0, 1 + count, ListLayout(), binary([BOOT]) + binary([Made("d", (b"",))]) * count)
    data = replace(evidence(LOG), log=part).encode()
    tracemalloc.start()
    try:
        assert codes(data) == ["records_missing"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data) + (1 << 19), "as objects they take 13 times the evidence's size"
