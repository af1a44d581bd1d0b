"""Register values as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.errors import ImariumError, MalformedInput, UsageError
from imarium.formats.pcrs import parse_pcr_option, parse_pcrread
from imarium.hashes import SHA1, SHA256

TEXT = """  sha1:
    0 : 0x{a}
    10: 0x{b}
  sha256:
    0 : 0x{c}
    10: 0x{d}
    23: 0x{d}
  sha384:
  sm3_256:
""".format(a="0A" * 20, b="0b" * 20, c="0C" * 32, d="0d" * 32)


def test_the_output_of_tpm2_pcrread():
    values = parse_pcrread(TEXT)
    assert values == {
        0: {SHA1: b"\n" * 20, SHA256: b"\x0c" * 32},
        10: {SHA1: b"\v" * 20, SHA256: b"\r" * 32},
        23: {SHA256: b"\r" * 32},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "register values as tpm2_pcrread prints them"),
        ("  sha1:\n  sha256:\n", "register values as tpm2_pcrread prints them"),
        ("    10: 0x" + "00" * 20, "the name of a bank"),
        ("sha9:\n", "the name of a bank"),
        ("sha1:\n10: 0x" + "00" * 19, "40 hexadecimal digits for sha1, found 38"),
        ("sha1:\n10: 0x" + "00" * 32, "40 hexadecimal digits for sha1, found 64"),
        ("sha1:\n64: 0x" + "00" * 20, "a register below 64"),
        ("sha1:\n10: 0x" + "00" * 20 + "\n10: 0x" + "00" * 20, "register 10 once in bank sha1"),
        ("sha1:\n10: " + "00" * 20, "the name of a bank"),
        ("sha1:\n\u0661\u0660: 0x" + "00" * 20, "the name of a bank"),
        ("sha1:\n10: 0x" + "zz" * 20, "the name of a bank"),
        ("ERROR: tcti\n", "the name of a bank"),
    ],
)
def test_other_text_is_refused(text, words):
    with pytest.raises(MalformedInput, match=words) as caught:
        parse_pcrread(text)
    assert "\n" not in str(caught.value)


def test_offsets_are_those_of_the_line():
    with pytest.raises(MalformedInput) as caught:
        parse_pcrread("sha1:\n\n  10 : 0xff\n")
    assert caught.value.offset == 7


def test_values_on_the_command_line():
    values = parse_pcr_option(["10:sha256=" + "0d" * 32, "10:SHA1=0x" + "0A" * 20, "10:sha1=" + "0a" * 20])
    assert values == {10: {SHA256: b"\r" * 32, SHA1: b"\n" * 20}}
    assert parse_pcr_option([]) == {}


@pytest.mark.parametrize(
    "option",
    ["", "10", "10:sha1", "10:sha1=", "sha1:10=00", "10:sha9=00", "64:sha1=" + "00" * 20, "10:sha1=00", "10:sha1=0g"],
)
def test_other_options_are_refused(option):
    with pytest.raises(UsageError) as caught:
        parse_pcr_option([option])
    assert "\n" not in str(caught.value)


def test_two_values_for_one_register_are_refused():
    with pytest.raises(UsageError, match="register 10 has two values in bank sha1"):
        parse_pcr_option(["10:sha1=" + "00" * 20, "10:sha1=" + "01" * 20])


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_pcrread, lambda t: parse_pcr_option([t])):
        try:
            parse(text)
        except ImariumError as error:
            assert "\n" not in str(error)
