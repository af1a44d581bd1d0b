"""Replay, compared with a naive one: chains, violations, several registers, padded banks, resuming."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import BANKS, SIZES, Made, binary, made_layouts, made_records, naive_replay, ng

from imarium.chain import BootAggregate, ChainState, Replay, extend, initial_value, replay, violation_digest
from imarium.errors import MalformedRecord, UsageError
from imarium.formats.records import ListLayout, RecordFramer
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, by_name

PCR = PcrIndex(10)
MADE = [ng(b"boot_aggregate"), ng(b"/a"), ng(b"/b", 11), ng(b"/v", violation=True), ng(b"/c", 11), ng(b"/d")]
cases = made_layouts().flatmap(lambda layout: st.tuples(st.just(layout), made_records(layout[1])))


def blocks(data: bytes, step: int = 50):
    return [data[i : i + step] for i in range(0, len(data), step)]


@given(cases, st.lists(st.sampled_from(BANKS), min_size=1, max_size=3), st.sets(st.sampled_from(BANKS[1:])))
def test_chains_are_those_of_a_naive_replay(case, banks, lacking):
    (column, order, padded), made = case
    layout = ListLayout(by_name(column), order, padded)
    result = replay(
        blocks(binary(made, column, order, padded)), layout, map(by_name, banks), padded=map(by_name, lacking)
    )
    assert result.records == len(made)
    assert result.violations == sum(record.violation for record in made)
    assert result.bad_digests == ()
    assert result.state.records == len(made)
    assert set(result.state.values) == {10} | {record.pcr for record in made}
    for bank in banks:
        expected = naive_replay(made, bank, order, padded=bank in lacking)[-1]
        for pcr, values in result.state.values.items():
            initial = (b"\xff" if 17 <= pcr <= 22 else b"\0") * SIZES[bank]
            assert values[by_name(bank)] == expected.get(pcr, initial)


@given(cases, st.data())
def test_a_replay_can_be_taken_up_anywhere(case, data):
    (column, order, _), made = case
    layout = ListLayout(by_name(column), order)
    split = data.draw(st.integers(0, len(made)), "split")
    whole = replay([binary(made, column, order)], layout)
    first = replay([binary(made[:split], column, order)], layout)
    kept = ChainState.from_document(json.loads(json.dumps(first.state.to_document())))
    assert kept == first.state
    rest = replay([binary(made[split:], column, order)], layout, start=kept)
    assert rest.first == split
    assert rest.records == len(made) - split
    assert rest.state == whole.state
    assert first.violations + rest.violations == whole.violations
    assert first.boot_aggregates + rest.boot_aggregates == whole.boot_aggregates


def test_the_legacy_template_against_a_value_by_hand():
    """SHA-1 over the 20-byte digest and the name padded to 256 bytes, extended into zeros."""
    made = Made("ima", (b"\x11" * 20, b"boot_aggregate"))
    digest = hashlib.sha1(b"\x11" * 20 + b"boot_aggregate" + bytes(242)).digest()  # noqa: S324 - a register's
    assert digest.hex() == "5535fb34eff36d562b8d5cfe8c488618cd8c0900"  # sha1sum of the same bytes
    data = (10).to_bytes(4, "little") + digest + b"\3\0\0\0ima" + b"\x11" * 20 + b"\x0e\0\0\0boot_aggregate"
    assert made.binary() == data
    result = replay([data], ListLayout())
    assert result.bad_digests == ()
    assert result.state.values[PCR][SHA1].hex() == "61c5b45ba3742da8c9ec0058f9d703bbb5828507"
    wide = hashlib.sha256(b"\x11" * 20 + b"boot_aggregate" + bytes(242)).digest()
    assert result.state.values[PCR][SHA256] == hashlib.sha256(bytes(32) + wide).digest()


@given(st.sets(st.integers(0, len(MADE) - 1)), st.sampled_from(BANKS), st.sampled_from(BANKS), st.integers(0, 9))
def test_forged_template_digests_are_named_and_not_extended(forged, column, bank, first):
    made = [
        Made(m.template, m.fields, m.pcr, m.violation, b"\x77" * SIZES[column] if i in forged else None)
        for i, m in enumerate(MADE)
    ]
    start = ChainState(first)
    result = replay([binary(made, column)], ListLayout(by_name(column)), [by_name(bank)], start=start)
    violation = {i for i, m in enumerate(MADE) if m.violation}
    assert result.bad_digests == tuple(first + i for i in sorted(forged - violation))
    assert result.state.values[PCR][by_name(bank)] == naive_replay(MADE, bank)[-1][10]


def test_a_template_digest_with_other_padding_is_bad():
    layout = ListLayout(SHA256, padded=True)
    data = binary(MADE, "sha256", padded=True)
    assert replay([data], layout).bad_digests == ()
    assert replay([data], layout, padded=[SHA256]).bad_digests == ()
    assert replay([data], ListLayout(SHA256)).bad_digests == (0, 1, 2, 4, 5)
    assert replay([binary(MADE, "sha256")], layout).bad_digests == (0, 1, 2, 4, 5)


def test_what_a_violation_extends():
    assert violation_digest(SHA256) == b"\xff" * 32
    assert violation_digest(SHA256, padded=True) == b"\xff" * 32
    assert violation_digest(by_name("sha3-256")) == b"\xff" * 32
    assert violation_digest(by_name("sha3-256"), padded=True) == b"\xff" * 20 + bytes(12)


def test_initial_values_and_extend():
    assert [initial_value(PcrIndex(pcr), SHA1)[0] for pcr in (0, 10, 16, 17, 22, 23)] == [0, 0, 0, 255, 255, 0]
    assert extend(SHA1, bytes(20), b"\1" * 20) == hashlib.sha1(bytes(20) + b"\1" * 20).digest()  # noqa: S324 - a register's


def test_boot_aggregates_are_reported_wherever_they_are():
    late = ng(b"boot_aggregate_late", content=b"y")
    made = [
        MADE[0],
        ng(b"/not_boot_aggregate"),
        Made("ima", (b"\2" * 20, b"boot_aggregate")),
        late,
        Made("ima-ng", (b"what:\0boot_aggregate", b"boot_aggregate\0")),
    ]
    result = replay([binary(made)], ListLayout(), start=ChainState(7))
    assert result.boot_aggregates == (
        BootAggregate(7, "boot_aggregate", "sha256", hashlib.sha256(b"boot_aggregate").digest()),
        BootAggregate(9, "boot_aggregate", "sha1", b"\2" * 20),
        BootAggregate(10, "boot_aggregate_late", "sha256", hashlib.sha256(b"y").digest()),
    )


def test_a_malformed_list_has_no_result():
    with pytest.raises(MalformedRecord) as caught:
        replay([binary(MADE)[:-1]], ListLayout(), start=ChainState(100))
    assert caught.value.record == 105


def test_a_state_without_the_bank_is_refused():
    start = replay([binary(MADE[:2])], ListLayout(), [SHA1]).state
    with pytest.raises(UsageError, match="not in sha256; replay from the beginning"):
        Replay(ListLayout(), [SHA256], start=start)


@pytest.mark.parametrize(("banks", "padded"), [((), ()), ((SHA1,), (SHA1,))])
def test_what_makes_no_sense_is_refused(banks, padded):
    with pytest.raises(UsageError):
        Replay(ListLayout(), banks, padded=padded)


def test_feeding_frame_by_frame_is_feeding_them_all():
    frames = RecordFramer(ListLayout()).feed(binary(MADE))
    values = {PCR: {SHA1: naive_replay(MADE[:4], "sha1")[-1][10]}}
    results = []
    for size in (1, 2, 6):
        run = Replay(ListLayout(), targets=values)
        for i in range(0, len(frames), size):
            run.feed(frames[i : i + size])
        run.feed([])
        results.append(run.result())
    assert results[0] == results[1] == results[2]
