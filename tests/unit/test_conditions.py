"""Conditional and range requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.web.conditions import ByteRange, Unsatisfiable, byte_range, is_known

TAG = '"a-0-5-sha1-binary"'


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (None, False),
        ("", False),
        ("*", True),
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"x", {TAG}, "y"', True),
        ('"a-0-5-sha1-binar"', False),
        ("a-0-5-sha1-binary", False),
    ],
)
def test_tags(text: str | None, known: bool) -> None:
    assert is_known(text, TAG) is known


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 100),
        ("bytes=10-19", 10, 20),
        ("BYTES=90-1000", 90, 100),
        ("bytes=-5", 95, 100),
        ("bytes=-500", 0, 100),
    ],
)
def test_ranges(text: str, start: int, end: int) -> None:
    assert byte_range(text, None, TAG, 100) == ByteRange(start, end)
    assert byte_range(text, TAG, TAG, 100) == ByteRange(start, end)
    assert byte_range(text, '"another"', TAG, 100) is None
    assert ByteRange(start, end).content_range(100) == f"bytes {start}-{end - 1}/100"


@pytest.mark.parametrize("text", [None, "", "bytes=-", "bytes=5-1", "bytes=0-1,5-6", "records=0-1", "bytes=a-b"])
def test_what_makes_no_sense_is_all_of_it(text: str | None) -> None:
    assert byte_range(text, None, TAG, 100) is None


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_behind_the_end(text: str) -> None:
    with pytest.raises(Unsatisfiable):
        byte_range(text, None, TAG, 100)


@given(st.text(max_size=40), st.integers(0, 200))
def test_any_text(text: str, size: int) -> None:
    is_known(text, TAG)
    try:
        found = byte_range(text, None, TAG, size)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found.start < found.end <= size
