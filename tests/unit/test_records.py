"""Binary lists: records out of bytes and back, and every way in which bytes are no list."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import BANKS, SIZES, Made, binary, made_layouts, made_records, ng

from imarium.errors import MalformedRecord
from imarium.formats.records import ListLayout, RecordFramer, encode_record, read_records
from imarium.hashes import by_name

cases = made_layouts().flatmap(lambda layout: st.tuples(st.just(layout), made_records(layout[1])))

LEGACY = Made("ima", (bytes(20), b"/sbin/init"))
SAMPLE = [ng(b"boot_aggregate"), LEGACY, ng(b"/bin/sh", 11), ng(b"/tmp/x", violation=True)]


def read(data: bytes, layout: ListLayout | None = None):
    return list(read_records([data], layout or ListLayout()))


def outcome(blocks, layout):
    """The records read and the words of the error that ended them."""
    records = []
    try:
        for record in read_records(blocks, layout):
            records.append(record)
    except MalformedRecord as error:
        return records, (error.record, error.offset, str(error))
    return records, None


@given(cases)
def test_records_are_read_and_written_as_they_stand(case):
    (bank, order, padded), made = case
    data = binary(made, bank, order, padded)
    records = read(data, ListLayout(by_name(bank), order, padded))
    assert [(r.pcr, r.template.name, r.fields) for r in records] == [(m.pcr, m.template, m.fields) for m in made]
    assert [r.template_digest for r in records] == [m.digest(bank, order, padded) for m in made]
    assert [r.is_violation for r in records] == [m.violation for m in made]
    assert all(r.digest_is_good for r in records)
    assert [r.number for r in records] == list(range(len(made)))
    for record, following in pairwise(records):
        assert following.offset == record.offset + record.size
    assert b"".join(map(encode_record, records)) == data
    if records:
        assert records[-1].offset + records[-1].size == len(data)


@given(cases, st.data())
def test_block_boundaries_do_not_matter(case, data):
    (bank, order, padded), made = case
    layout = ListLayout(by_name(bank), order, padded)
    whole = binary(made, bank, order, padded)
    if whole and data.draw(st.booleans(), "damage"):
        at = data.draw(st.integers(0, len(whole) - 1), "at")
        whole = whole[:at] + bytes([data.draw(st.integers(0, 255), "byte")]) + whole[at + 1 :]
    if data.draw(st.booleans(), "cut off"):
        whole = whole[: data.draw(st.integers(0, len(whole)), "end")]
    step = data.draw(st.integers(1, 70), "step")
    expected = outcome([whole], layout)
    assert outcome([whole[i : i + 1] for i in range(len(whole))], layout) == expected
    assert outcome([whole[i : i + step] for i in range(0, len(whole), step)], layout) == expected


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("bank", ["sha1", "sha512"])
def test_every_truncation_names_the_record_it_cuts(bank, order):
    data = binary(SAMPLE, bank, order)
    ends = [0]
    for made in SAMPLE:
        ends.append(ends[-1] + len(made.binary(bank, order)))
    for end in range(len(data)):
        records, error = outcome([data[:end]], ListLayout(by_name(bank), order))
        whole = sum(e <= end for e in ends) - 1
        assert len(records) == whole
        if end in ends:
            assert error is None
        else:
            assert error is not None
            assert error[:2] == (whole, ends[whole])
            assert "the end of the list" in error[2]


def blown(position: int, value: int = 0xFFFFFFFF, made: Made = SAMPLE[0]) -> bytes:
    good = SAMPLE[2].binary()
    data = bytearray(made.binary())
    data[position : position + 4] = struct.pack("<I", value)
    return good + bytes(data) + good


@pytest.mark.parametrize(
    ("data", "within", "words"),
    [
        (blown(0), 0, "a register below 64, found 4294967295"),
        (blown(0, 64), 0, "a register below 64, found 64"),
        (blown(24), 24, "a template name of 1 to 255 bytes, found a length of 4294967295"),
        (blown(24, 0), 24, "a template name"),
        (blown(24, 256), 24, "a template name"),
        (blown(34), 34, "at most 67108864 bytes of template data, found a length of 4294967295"),
        (blown(34, (1 << 26) + 1), 34, "at most 67108864 bytes"),
        (blown(51, made=LEGACY), 51, "a name of at most 255 bytes"),
        (blown(51, 256, made=LEGACY), 51, "a name of at most 255 bytes"),
        (blown(28, 0x21212121), 28, "the name of a known template or its fields, found b'!!!!ng'"),
    ],
)
def test_a_broken_record_is_named_and_those_before_it_are_read(data, within, words):
    records, error = outcome([data], ListLayout())
    start = len(SAMPLE[2].binary())
    assert [record.name for record in records] == [b"/bin/sh"]
    assert error is not None
    assert error[:2] == (1, start + within)
    assert words in error[2]
    assert "\n" not in error[2]


def test_a_faulty_framer_stays_faulty():
    framer = RecordFramer(ListLayout())
    assert len(framer.feed(blown(0))) == 1
    assert (framer.number, framer.offset) == (1, len(SAMPLE[2].binary()))
    for attempt in (framer.check, framer.finish, lambda: framer.feed(SAMPLE[0].binary())):
        with pytest.raises(MalformedRecord) as caught:
            attempt()
        assert caught.value.record == 1


@pytest.mark.parametrize("length", [(1 << 26), 0xFFFFFFFF])
def test_memory_is_bounded_by_the_input_not_by_its_lengths(length):
    data = bytearray(SAMPLE[0].binary() * 50)
    position = len(data) - len(SAMPLE[0].binary()) + 34
    data[position : position + 4] = struct.pack("<I", length)
    whole = bytes(data)
    tracemalloc.start()
    try:
        _, error = outcome([whole], ListLayout())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is not None
    assert error[0] == 49
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((b"sha1:\0" + bytes(19), b"/x\0"), "sha1 digest of 20 bytes"),
        ((b"what:\0" + bytes(20), b"/x\0"), "a hash algorithm"),
        ((b"sha1:\0" + bytes(20), b"/x"), "ended by its only NUL"),
    ],
)
def test_broken_fields_are_found_when_asked_for(fields, words):
    start = len(SAMPLE[0].binary())
    made = Made("ima-ng", fields)
    record = read(SAMPLE[0].binary() + made.binary())[1]
    with pytest.raises(MalformedRecord) as caught:
        _ = record.fields
    assert caught.value.record == 1
    assert start + 38 <= caught.value.offset < start + len(made.binary())
    assert words in str(caught.value)


@given(st.integers(0, len(SAMPLE[0].data("little")) - 1), st.integers(1, 255))
def test_changed_data_does_not_give_the_stored_digest(at, change):
    data = bytearray(binary(SAMPLE))
    data[38 + at] ^= change
    record = read(bytes(data))[0]
    assert not record.digest_is_good
    assert not record.is_violation


def test_only_an_all_zero_template_digest_is_a_violation():
    zero_file = Made("ima-ng", (b"sha1:\0" + bytes(20), b"/x\0"))
    nearly = Made("ima-ng", (b"sha1:\0" + bytes(20), b"/x\0"), forged=bytes(19) + b"\1")
    records = read(binary([zero_file, nearly, SAMPLE[3]]))
    assert [r.is_violation for r in records] == [False, False, True]
    assert [r.digest_is_good for r in records] == [True, False, True]


def test_name_and_file_digest():
    records = read(binary([LEGACY, ng(b"/a\nb"), Made("d-ng|n-ng|sig", (b"sha1:\0" + b"\2" * 20, b"\xff\0", b""))]))
    assert [r.name for r in records] == [b"/sbin/init", b"/a\nb", b"\xff"]
    digests = [r.file_digest for r in records]
    assert [d.algorithm for d in digests if d] == ["sha1", "sha256", "sha1"]
    nameless = read(Made("sig", (b"\3",)).binary())[0]
    assert nameless.name is None
    assert nameless.file_digest is None


def test_numbers_and_offsets_go_on_where_the_caller_says():
    records = list(read_records([binary(SAMPLE)], ListLayout(), first=100, offset=1000))
    assert records[0].number == 100
    assert records[0].offset == 1000
    with pytest.raises(MalformedRecord) as caught:
        list(read_records([binary(SAMPLE)[:-1]], ListLayout(), first=100, offset=1000))
    assert caught.value.record == 103


@pytest.mark.parametrize("bank", BANKS)
def test_the_digest_column_has_the_size_of_its_bank(bank):
    record = read(SAMPLE[0].binary(bank), ListLayout(by_name(bank)))[0]
    assert len(record.template_digest) == SIZES[bank]
    assert record.size == len(SAMPLE[0].binary(bank))
