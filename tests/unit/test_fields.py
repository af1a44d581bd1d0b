"""Fields: out of template data, into text and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import ORDERS, Made, made_records

from imarium.formats.fields import (
    MalformedField,
    check_field,
    field_digest,
    field_text,
    hash_input,
    join_fields,
    parse_field_text,
    split_fields,
)
from imarium.formats.templates import FIELD_KINDS, template


def known(name: str):
    found = template(name.encode())
    assert found is not None
    return found


@given(st.sampled_from(ORDERS).flatmap(lambda order: st.tuples(st.just(order), made_records(order))))
def test_data_is_split_and_joined_as_the_kernel_lays_it_out(case):
    order, records = case
    for made in records:
        data = made.data(order)
        assert split_fields(known(made.template), data, order) == made.fields
        assert join_fields(known(made.template), made.fields, order) == data
        assert hash_input(known(made.template), data) == made.hash_input(order)


def test_the_legacy_template_pads_the_name_it_hashes():
    data = bytes(range(20)) + (3).to_bytes(4, "little") + b"/ab"
    assert hash_input(known("ima"), data) == bytes(range(20)) + b"/ab" + bytes(253)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("name", ["ima", "ima-ng", "evm-sig"])
def test_data_cut_anywhere_is_refused(order, name):
    fields = {
        "ima": (bytes(20), b"/x"),
        "ima-ng": (b"sha1:\0" + bytes(20), b"/x\0"),
        "evm-sig": (b"sha1:\0" + bytes(20), b"/x\0", b"", b"a\0", b"\1\0\0\0", b"z", bytes(4), bytes(4), bytes(2)),
    }
    data = Made(name, fields[name]).data(order)
    for end in range(len(data)):
        with pytest.raises(MalformedField):
            split_fields(known(name), data[:end], order)
    with pytest.raises(MalformedField):
        split_fields(known(name), data + b"\0", order)


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("n-ng", b"/x"),
        ("n-ng", b"/x\0\0"),
        ("n-ng", b"a\0b\0"),
        ("d", bytes(16)),
        ("d", bytes(32)),
        ("d-ng", b"sha1:" + bytes(20)[:0]),
        ("d-ng", b"sha1\0" + bytes(20)),
        ("d-ng", b"sha1:\0" + bytes(19)),
        ("d-ng", b"sha1:\0" + bytes(32)),
        ("d-ng", b"nope:\0" + bytes(20)),
        ("d-ng", b":\0" + bytes(20)),
        ("d-ng", b"ima:sha1:\0" + bytes(20)),
        ("d-ng", b"s" * 70 + b":\0" + bytes(20)),
        ("d-ngv2", b"sha1:\0" + bytes(20)),
        ("d-ngv2", b"ima:sha1:\0" + bytes(21)),
        ("d-ngv2", b"other:sha1:\0" + bytes(20)),
        ("iuid", bytes(3)),
        ("imode", bytes(16)),
    ],
)
def test_what_no_kernel_writes_is_refused(field, raw):
    with pytest.raises(MalformedField):
        check_field(FIELD_KINDS[field], raw)


def test_digest_fields_are_taken_apart():
    verity = field_digest(FIELD_KINDS["d-ngv2"], b"verity:sha256:\0" + bytes(32))
    assert (verity.type, verity.algorithm, verity.digest) == ("verity", "sha256", bytes(32))
    plain = field_digest(FIELD_KINDS["d-ng"], b"sha512:\0" + b"\1" * 64)
    assert (plain.type, plain.algorithm, plain.digest) == (None, "sha512", b"\1" * 64)


@pytest.mark.parametrize(
    ("field", "raw", "order", "text"),
    [
        ("d", bytes(19) + b"\xab", "little", b"00" * 19 + b"ab"),
        ("d-ng", b"sha1:\0" + b"\1" * 20, "little", b"sha1:" + b"01" * 20),
        ("d-ngv2", b"ima:sha1:\0" + b"\1" * 20, "little", b"ima:sha1:" + b"01" * 20),
        ("n-ng", b"/a\nb\0", "little", b"/a\nb"),
        ("sig", b"\x03\x02", "little", b"0302"),
        ("sig", b"", "little", b""),
        ("iuid", b"\xe8\x03\0\0", "little", b"1000"),
        ("iuid", b"\0\0\x03\xe8", "big", b"1000"),
        ("imode", b"\xa4\x81", "little", b"33188"),
        ("iuid", b"", "little", b""),
    ],
)
def test_text_of_fields(field, raw, order, text):
    assert field_text(FIELD_KINDS[field], raw, order) == text
    assert parse_field_text(FIELD_KINDS[field], text, order) == raw


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("sig", b"0"),
        ("sig", b"0G"),
        ("sig", b"AB"),
        ("sig", b"0 "),
        ("d-ng", b"sha1:"),
        ("d-ng", b"01" * 20),
        ("d-ng", b"sha1:" + b"01" * 21),
        ("iuid", b"-1"),
        ("iuid", b"007"),
        ("iuid", b"4294967296"),
        ("iuid", b"9" * 10000),
        ("imode", b"65536"),
        ("n-ng", b"a\0b"),
    ],
)
def test_text_that_is_no_field_is_refused(field, text):
    with pytest.raises(MalformedField):
        parse_field_text(FIELD_KINDS[field], text, "little")
