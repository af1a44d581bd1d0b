"""The buffer handed over at kexec."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import ORDERS, kexec, made_records, ng

from imarium.errors import MalformedInput
from imarium.formats.kexec import KEXEC_HEADER_SIZE, KexecHeader
from imarium.formats.lists import ListForm, ListKind, read_frames, read_list
from imarium.formats.records import ListLayout

MADE = [ng(b"boot_aggregate"), ng(b"/x", violation=True)]


def form(order="little"):
    return ListForm(ListKind.KEXEC, ListLayout(byte_order=order))


@given(
    st.sampled_from(ORDERS).flatmap(lambda order: st.tuples(st.just(order), made_records(order))),
    st.binary(max_size=40),
    st.integers(1, 64),
)
def test_records_are_read_and_what_lies_behind_is_not(case, slack, step):
    order, made = case
    data = kexec(made, order, slack)
    blocks = [data[i : i + step] for i in range(0, len(data), step)]
    records = list(read_list(blocks, form(order), first=7))
    assert [r.fields for r in records] == [m.fields for m in made]
    assert [r.number for r in records] == list(range(7, 7 + len(made)))
    if records:
        assert records[0].offset == KEXEC_HEADER_SIZE
    frames = [frame for batch in read_frames(blocks, form(order)) for frame in batch]
    assert frames == [record.frame for record in records]


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_header_goes_both_ways(order):
    header = KexecHeader(24 + 1000, 3, order)
    assert KexecHeader.decode(header.encode() + b"more") == header
    assert header.encode() == kexec([], order)[:8] + (1024).to_bytes(8, order) + (3).to_bytes(8, order)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        bytes(24),
        b"\2" + kexec(MADE)[1:24],
        b"\1\0\1\0" + kexec(MADE)[4:24],
        b"\1\0\0\0\1" + kexec(MADE)[5:24],
        b"\1" + bytes(7) + (23).to_bytes(8, "little") + bytes(8),
    ],
)
def test_a_header_of_another_kind_is_refused(head):
    with pytest.raises(MalformedInput, match=r"^kexec buffer: at byte"):
        KexecHeader.decode(head)


@pytest.mark.parametrize("end", range(len(kexec(MADE))))
def test_a_buffer_cut_anywhere_is_refused(end):
    data = kexec(MADE)[:end]
    for blocks in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(MalformedInput, match=r"the end of the buffer|a header of 24 bytes"):
            list(read_list(blocks, form()))


@pytest.mark.parametrize("count", [0, 1, 3, (1 << 64) - 1])
def test_a_count_that_is_not_so_is_refused(count):
    data = kexec(MADE)[:16] + count.to_bytes(8, "little") + kexec(MADE)[24:]
    for reader in (read_list, read_frames):
        with pytest.raises(MalformedInput, match=f"expected {count} records, as its header says, found 2"):
            list(reader([data], form()))


def test_of_two_faults_the_first_is_reported_wherever_blocks_end():
    data = kexec(MADE)[:24] + MADE[0].binary() + b"\xff" * 60  # a broken record, and fewer bytes than announced
    announced = data[:8] + (1000).to_bytes(8, "little") + data[16:]
    for reader in (read_list, read_frames):
        for step in (1, 50, len(announced)):
            with pytest.raises(MalformedInput, match=r"^record 1 at byte \d+: expected a register"):
                list(reader([announced[i : i + step] for i in range(0, len(announced), step)], form()))
