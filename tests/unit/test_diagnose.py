"""Explanations of a list that does not lead where it should: found at any place, and never claimed where untrue."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, HashAlgorithm
from imarium.verifier.diagnose import Link, explain
from imarium.verifier.result import Reason

OTHER = PcrIndex(11)
BANKS = st.sampled_from([SHA1, SHA256])
SHAPES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30)
"""Of each record: whether it is a violation, and whether it is of another register."""


def made(shape: list[tuple[bool, bool]], bank: HashAlgorithm, first: int = 0) -> list[Link]:
    return [
        Link(number, OTHER if other else IMA_PCR, bank.digest(b"%d" % number), violation)
        for number, (violation, other) in enumerate(shape, first)
    ]


def plain(count: int, bank: HashAlgorithm = SHA256) -> list[Link]:
    return made([(False, False)] * count, bank)


def value(links: list[Link], bank: HashAlgorithm, start: bytes) -> bytes:
    """The register's value, computed the plain way."""
    for link in links:
        if link.pcr == IMA_PCR:
            extended = b"\xff" * bank.size if link.is_violation else link.digest
            start = hashlib.new(bank.name, start + extended).digest()
    return start


def holds(links: list[Link], reason: Reason, bank: HashAlgorithm, start: bytes, target: bytes) -> bool:
    """Whether undoing what the reason says makes some prefix lead to the target."""
    place = next(i for i, link in enumerate(links) if link.record == reason.record)
    link, behind = links[place], links[place + 1 :]
    changed = {
        "record_added": [behind],
        "violation_forged": [[replace(link, is_violation=False), *behind]],
        "record_register": [[replace(link, pcr=IMA_PCR), *behind]],
        "record_order": [
            [other, *behind[:i], link, *behind[i + 1 :]] for i, other in enumerate(behind) if other.pcr == link.pcr
        ],
    }[reason.code]
    before = links[:place]
    return any(value(before + tail[:end], bank, start) == target for tail in changed for end in range(len(tail) + 1))


@given(SHAPES, BANKS, st.data())
def test_a_record_too_many_is_found_anywhere(shape, bank, data):
    links, start = made(shape, bank), bytes(bank.size)
    place = data.draw(st.integers(0, len(links) - 1))
    links[place] = replace(links[place], pcr=IMA_PCR, is_violation=False)
    target = value(links[:place] + links[place + 1 :], bank, start)
    behind = data.draw(st.integers(0, 3))
    later = [Link(1000 + i, IMA_PCR, bank.digest(b"later %d" % i), False) for i in range(behind)]
    found = explain(links + later, IMA_PCR, bank, start, target)
    if any(link.pcr == IMA_PCR for link in links[place + 1 :]):
        assert found is not None
        assert (found.code, found.record) == ("record_added", place)
    elif found is not None:  # nothing of the register follows: the list leads there as it is
        assert holds(links + later, found, bank, start, target)


@given(SHAPES, BANKS, st.data())
def test_two_records_in_each_others_place_are_found(shape, bank, data):
    links, start = made(shape, bank), b"\x01" * bank.size
    own = [i for i, link in enumerate(links) if link.pcr == IMA_PCR and not link.is_violation]
    if len(own) < 2:
        return
    one, other = sorted(data.draw(st.lists(st.sampled_from(own), min_size=2, max_size=2, unique=True)))
    target = value(links, bank, start)
    links[one], links[other] = replace(links[other], record=one), replace(links[one], record=other)
    found = explain(links, IMA_PCR, bank, start, target)
    assert found is not None
    assert found.code == "record_order"
    assert found.record == one
    assert f"{one} and {other} " in found.detail


@given(SHAPES, BANKS, st.data())
def test_a_zeroed_digest_is_found_anywhere(shape, bank, data):
    links, start = made(shape, bank), bytes(bank.size)
    place = data.draw(st.integers(0, len(links) - 1))
    links[place] = replace(links[place], pcr=IMA_PCR, is_violation=False)
    target = value(links, bank, start)
    links[place] = replace(links[place], is_violation=True)
    found = explain(links, IMA_PCR, bank, start, target)
    assert found is not None
    assert (found.code, found.record) == ("violation_forged", place)


@given(SHAPES, BANKS, st.data())
def test_a_record_given_another_register_is_found_anywhere(shape, bank, data):
    links, start = made([(False, other) for _, other in shape], bank), bytes(bank.size)
    place = data.draw(st.integers(0, len(links) - 1))
    links[place] = replace(links[place], pcr=IMA_PCR)
    target = value(links, bank, start)
    links[place] = replace(links[place], pcr=OTHER)
    found = explain(links, IMA_PCR, bank, start, target)
    assert found is not None
    assert (found.code, found.record) == ("record_register", place)


@given(SHAPES, BANKS, st.binary(min_size=1, max_size=9), st.data())
def test_no_explanation_is_offered_that_does_not_hold(shape, bank, seed, data):
    """Two changes at once, or a target from elsewhere: whatever is said can be tried, and holds."""
    links, start = made(shape, bank), bytes(bank.size)
    whole = list(links)
    for place in sorted(data.draw(st.sets(st.integers(0, len(links) - 1), min_size=1, max_size=3)), reverse=True):
        del links[place]
    target = data.draw(st.sampled_from([value(whole, bank, start), bank.digest(seed)]))
    found = explain(links, IMA_PCR, bank, start, target)
    assert found is None or holds(links, found, bank, start, target)
    assert explain(links, IMA_PCR, bank, start, bank.digest(seed)) is None


def test_nothing_to_search() -> None:
    assert explain([], IMA_PCR, SHA256, bytes(32), b"\x01" * 32) is None
    assert explain(made([(False, True)], SHA256), IMA_PCR, SHA256, bytes(32), b"\x01" * 32) is None


@pytest.mark.parametrize("place", [0, 1, 150, 298])
def test_the_end_of_a_long_list_is_searched(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imarium.verifier.diagnose.WINDOW", 300)
    monkeypatch.setattr("imarium.verifier.diagnose._PAIR_HASHES", 10_000)
    links, start = plain(1000), bytes(32)
    number = 1000 - 300 + place
    target = value(links[:number] + links[number + 1 :], SHA256, start)
    found = explain(iter(links), IMA_PCR, SHA256, start, target)
    assert found is not None
    assert (found.code, found.record) == ("record_added", number)


@pytest.mark.parametrize("violation", [False, True])
@pytest.mark.parametrize("count", [100, 500, 1000, 20_000])
def test_the_search_is_bounded(count: int, violation: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In how many extends it tries, whatever the list's length."""
    tried = 0

    def counted(_bank: HashAlgorithm, _value: bytes, digests: Iterable[bytes], _target: bytes) -> bool:
        nonlocal tried
        tried += len(list(digests))
        return False

    monkeypatch.setattr("imarium.verifier.diagnose.leads_to", counted)
    links = made([(violation, False)] * count, SHA256)
    assert explain(links, IMA_PCR, SHA256, bytes(32), b"\x01" * 32) is None
    assert count < tried < 5_000_000
