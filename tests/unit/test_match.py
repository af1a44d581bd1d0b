"""Which prefix of a list given register values cover."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import SIZES, Made, binary, made_records, naive_replay, ng

from imarium.chain import ChainState, Replay
from imarium.formats.records import ListLayout, RecordFramer
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, by_name

P10, P11 = PcrIndex(10), PcrIndex(11)


def run(made, targets, *, optional=(), start=None, step=2):
    state = start or ChainState()
    replaying = Replay(ListLayout(), targets=targets, optional=optional, start=state)
    frames = RecordFramer(ListLayout()).feed(binary(made))
    for i in range(0, len(frames), step):
        replaying.feed(frames[i : i + step])
    return replaying.result()


def values_after(made: list[Made], moments: dict[int, int], banks=("sha1", "sha256")):
    """The values of registers, each as it was after so many records."""
    histories = {bank: naive_replay(made, bank) for bank in banks}
    return {
        PcrIndex(pcr): {
            by_name(bank): histories[bank][moment].get(pcr, (b"\xff" if 17 <= pcr <= 22 else b"\0") * SIZES[bank])
            for bank in banks
        }
        for pcr, moment in moments.items()
    }


def moments_of(made: list[Made], targets) -> list[int]:
    """The numbers of records after which every given value held: an exhaustive search."""
    return [
        moment
        for moment in range(len(made) + 1)
        if all(values_after(made, {pcr: moment})[pcr] == banks for pcr, banks in targets.items())
    ]


@given(made_records(max_size=9), st.data())
def test_the_prefix_is_the_first_moment_at_which_all_values_held(made, data):
    pcrs = data.draw(st.sets(st.sampled_from([10, 11, 17, 0]), min_size=1), "registers")
    moments = {pcr: data.draw(st.integers(0, len(made)), f"moment of {pcr}") for pcr in sorted(pcrs)}
    targets = values_after(made, moments)
    step = data.draw(st.integers(1, 10), "step")
    result = run(made, targets, step=step)
    held = moments_of(made, targets)
    assert result.matches.prefix == (held[0] if held else None)
    verified = sum(record.pcr in pcrs for record in made[: held[0]]) if held else 0
    assert result.matches.verified == verified
    assert result.unverified == len(made) - verified
    for pcr, moment in moments.items():
        last = max((i + 1 for i, record in enumerate(made[:moment]) if record.pcr == pcr), default=0)
        assert result.matches.covered[PcrIndex(pcr)] == {SHA1: last, SHA256: last}


@given(made_records(max_size=9), st.data())
def test_the_same_from_a_resume_state(made, data):
    split = data.draw(st.integers(0, len(made)), "split")
    moment = data.draw(st.integers(split, len(made)), "moment")
    targets = values_after(made, {10: moment, 11: moment})
    first = run(made[:split], {})
    start = ChainState(split, {**values_after(made, {10: split, 11: split}), **first.state.values})
    result = run(made[split:], targets, start=start)
    assert result.matches.prefix is not None
    assert split <= result.matches.prefix <= moment
    whole = run(made, targets)
    assert whole.matches.prefix is not None
    assert result.matches.prefix == max(split, whole.matches.prefix)
    assert result.state == whole.state


def test_registers_read_at_different_moments_match_no_prefix():
    made = [ng(b"/a"), ng(b"/b", 11), ng(b"/c"), ng(b"/d", 11)]
    result = run(made, values_after(made, {10: 1, 11: 4}))
    assert result.matches.covered == {P10: {SHA1: 1, SHA256: 1}, P11: {SHA1: 4, SHA256: 4}}
    assert result.matches.prefix is None
    assert result.unverified == 4


def test_banks_read_at_different_moments_match_no_prefix():
    made = [ng(b"/a"), ng(b"/b")]
    early, late = values_after(made, {10: 1}), values_after(made, {10: 2})
    result = run(made, {P10: {SHA1: early[P10][SHA1], SHA256: late[P10][SHA256]}})
    assert result.matches.covered == {P10: {SHA1: 1, SHA256: 2}}
    assert result.matches.prefix is None


def test_two_registers_with_the_same_records_are_told_apart():
    """The value of the one is reached first by the other, in the same block."""
    made = [ng(b"/a"), ng(b"/a", 11), ng(b"/b"), ng(b"/b", 11)]
    for step in (1, 2, 4):
        result = run(made, values_after(made, {10: 4, 11: 4}), step=step)
        assert result.matches.covered == {P10: {SHA1: 3, SHA256: 3}, P11: {SHA1: 4, SHA256: 4}}
        assert result.matches.prefix == 4


def test_a_value_never_reached_is_none():
    made = [ng(b"/a")]
    result = run(made, {P10: {SHA1: b"\1" * 20}})
    assert result.matches.covered == {P10: {SHA1: None}}
    assert result.matches.prefix is None
    assert result.matches.verified == 0


def test_optional_registers_count_only_where_the_list_uses_them():
    made = [ng(b"/a"), ng(b"/b", 11)]
    everything = {PcrIndex(pcr): {SHA1: b"\3" * 20} for pcr in range(24) if pcr not in {10, 11}}
    targets = {**everything, **values_after(made, {10: 2, 11: 2})}
    optional = set(targets) - {P10}
    result = run(made, targets, optional=optional)
    assert set(result.matches.covered) == {P10, P11}
    assert result.matches.prefix == 2
    assert set(result.state.values) == {P10, P11}
    assert run(made, targets).matches.prefix is None
    wrong = {**targets, P11: {SHA1: b"\3" * 20}}
    assert run(made, wrong, optional=optional).matches.prefix is None


def test_an_optional_register_of_the_state_counts():
    made = [ng(b"/a"), ng(b"/b", 11), ng(b"/c")]
    start = run(made[:2], {}).state
    good = values_after(made, {10: 3, 11: 3})
    assert run(made[2:], good, optional={P11}, start=start).matches.prefix == 3
    wrong = {**good, P11: {SHA1: b"\3" * 20}}
    result = run(made[2:], wrong, optional={P11}, start=start)
    assert result.matches.covered[P11] == {SHA1: None}
    assert result.matches.prefix is None


def test_no_values_match_nothing():
    result = run([ng(b"/a")], {})
    assert result.matches.covered == {}
    assert result.matches.prefix is None
    assert result.unverified == 1


def test_records_behind_the_values_are_unverified():
    made = [ng(b"/%d" % i) for i in range(20)]
    for moment, step in itertools.product((0, 1, 7, 20), (1, 3, 20)):
        result = run(made, values_after(made, {10: moment}), step=step)
        assert (result.matches.prefix, result.unverified) == (moment, 20 - moment)
