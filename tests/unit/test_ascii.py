"""ASCII lists: the kernel's lines, what they can carry, and what they cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import builders
from tests.unit.builders import Made, binary, made_layouts, made_records, ng

from imarium.errors import MalformedRecord
from imarium.formats.ascii import ascii_line, display_line, display_name, read_ascii
from imarium.formats.records import ListLayout, encode_record, read_records
from imarium.hashes import by_name

cases = made_layouts().flatmap(lambda layout: st.tuples(st.just(layout), made_records(layout[1])))


def carried(made: Made) -> bool:
    """Whether text can carry the record: no newline in a name (a space cannot be in one)."""
    names = [raw for field, raw in zip(builders.TEMPLATES[made.template], made.fields, strict=True) if field[0] == "n"]
    return not any(b"\n" in name for name in names)


@given(cases)
def test_lines_are_the_kernels(case):
    (bank, order, padded), made = case
    records = read_records([binary(made, bank, order, padded)], ListLayout(by_name(bank), order, padded))
    for record, wanted in zip(records, made, strict=True):
        assert ascii_line(record) == builders.ascii_line(wanted, bank, order, padded)


@given(cases)
def test_binary_to_text_to_binary(case):
    (bank, order, padded), every = case
    made = [record for record in every if carried(record)]
    layout = ListLayout(by_name(bank), order, padded)
    data = binary(made, bank, order, padded)
    lines = [ascii_line(record) for record in read_records([data], layout)]
    records = list(read_ascii(lines, layout))
    assert b"".join(map(encode_record, records)) == data
    assert [record.number for record in records] == list(range(len(made)))
    assert [record.offset for record in records] == [sum(map(len, lines[:i])) for i in range(len(lines))]


@given(cases, st.integers(1, 50))
def test_block_boundaries_do_not_matter(case, step):
    (bank, order, padded), made = case
    layout = ListLayout(by_name(bank), order, padded)
    text = b"".join(builders.ascii_line(record, bank, order, padded) for record in made if carried(record))
    whole = list(read_ascii([text], layout))
    assert list(read_ascii([text[i : i + step] for i in range(0, len(text), step)], layout)) == whole


@given(cases)
def test_text_never_gives_a_good_record_with_other_data(case):
    """A name with a newline is refused, or read as records of which the template digest tells."""
    (bank, order, _), made = case
    layout = ListLayout(by_name(bank), order)
    for record in made:
        try:
            copies = list(read_ascii([builders.ascii_line(record, bank, order)], layout))
        except MalformedRecord:
            continue
        if not record.violation:
            assert [c.data for c in copies if c.digest_is_good] in ([], [record.data(order)])


def test_a_line_smuggled_into_a_name_does_not_pass():
    inner = ng(b"/innocent")
    smuggler = ng(b"/x\n" + builders.ascii_line(inner).rstrip(b"\n").replace(b" ", b"_"))
    with pytest.raises(MalformedRecord) as caught:
        list(read_ascii([builders.ascii_line(smuggler)], ListLayout()))
    assert caught.value.record == 1
    assert "use the binary one" in str(caught.value)
    # with its spaces, which no kernel leaves in a name, the second line is a record; the first gives itself away
    spaced = ng(b"/x\n" + builders.ascii_line(inner).rstrip(b"\n"))
    good = [record.digest_is_good for record in read_ascii([builders.ascii_line(spaced)], ListLayout())]
    assert good == [False, True]


def test_an_empty_text_is_told_from_an_absent_one_by_the_digest():
    head = (b"sha1:\0" + bytes(20), b"/x\0", b"\3")
    for names in (b"", b"\0"):
        made = Made("evm-sig", (*head, names, b"", b"", bytes(4), bytes(4), bytes(2)))
        record = next(read_ascii([builders.ascii_line(made)], ListLayout()))
        assert record.fields[3] == names
        assert record.digest_is_good


def test_an_integer_of_another_width_is_reported():
    made = Made("iuid|n-ng", ((1000).to_bytes(2, "little"), b"/x\0"))
    record = next(read_records([made.binary()], ListLayout()))
    copy = next(read_ascii([ascii_line(record)], ListLayout()))
    assert not copy.digest_is_good


DIGEST = "ab" * 20
FILE = "sha1:" + "00" * 20


@pytest.mark.parametrize(
    "line",
    [
        "",
        "10",
        f"10 {DIGEST} ima-ng {FILE}",
        f"10 {DIGEST} ima-ng {FILE} /x y",
        f"10 {DIGEST} ima-ng {FILE} /x ",
        f"10 {DIGEST} ima-sig {FILE} /x",
        f"10 {DIGEST} nope {FILE} /x",
        f"10 {DIGEST[2:]} ima-ng {FILE} /x",
        f"10 {DIGEST}{'00' * 12} ima-ng {FILE} /x",
        f"10 {DIGEST.upper()} ima-ng {FILE} /x",
        f"10 {DIGEST} ima-ng {FILE[:-2]} /x",
        f"10 {DIGEST} ima-ng what:{'00' * 20} /x",
        f"10 {DIGEST} ima-ng {'00' * 20} /x",
        f"10 {DIGEST} ima-ng {FILE} /\0x",
        f"64 {DIGEST} ima-ng {FILE} /x",
        f"100 {DIGEST} ima-ng {FILE} /x",
        f"05 {DIGEST} ima-ng {FILE} /x",
        f"5 {DIGEST} ima-ng {FILE} /x",
        f"-1 {DIGEST} ima-ng {FILE} /x",
        f" 10 {DIGEST} ima-ng {FILE} /x",
        f"10  {DIGEST} ima-ng {FILE} /x",
        f"10\t{DIGEST} ima-ng {FILE} /x",
        f"10 {DIGEST} ima  /x",
        f"10 {DIGEST} ima  {'a' * 16}\4\0\0\0wxyz",
        f"10 {DIGEST} ima {'00' * 20} {'n' * 256}",
        f"10 {DIGEST} ima-sig {FILE} /x 0",
        f"10 {DIGEST} ima-sig {FILE} /x 0G",
    ],
)
def test_what_is_no_record_is_refused(line):
    good = f"10 {DIGEST} ima-ng {FILE} /x\n".encode()
    with pytest.raises(MalformedRecord) as caught:
        list(read_ascii([good + line.encode() + b"\n" + good], ListLayout(), first=5))
    assert caught.value.record == 6
    assert caught.value.offset == len(good)
    assert "\n" not in str(caught.value)


def test_a_last_line_without_a_newline_is_refused():
    with pytest.raises(MalformedRecord, match=r"record 0 at byte 0: expected a line that ends in a newline"):
        list(read_ascii([f"10 {DIGEST} ima-ng {FILE} /x".encode()], ListLayout()))


def test_a_line_without_end_is_not_held(monkeypatch):
    monkeypatch.setattr("imarium.formats.ascii._MAX_LINE", 1000)
    given_out = []

    def endless():
        yield builders.ascii_line(ng(b"/x"))
        for number in range(1000):
            given_out.append(number)
            yield b"x" * 100

    with pytest.raises(MalformedRecord, match=r"^record 1 at byte \d+: expected a line of at most 1000 bytes"):
        list(read_ascii(endless(), ListLayout()))
    assert len(given_out) < 20


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_two_names_never_look_the_same(one, other):
    assert (display_name(one) == display_name(other)) is (one == other)


@given(st.binary(max_size=60))
def test_a_shown_name_can_be_read_back(name):
    shown = display_name(name)
    assert shown.isprintable() or not shown
    back = bytearray()
    position = 0
    raw = shown.encode()
    while position < len(raw):
        if raw[position : position + 2] == b"\\\\":
            back += b"\\"
            position += 2
        elif raw[position : position + 2] == b"\\x":
            back.append(int(raw[position + 2 : position + 4], 16))
            position += 4
        else:
            back.append(raw[position])
            position += 1
    assert bytes(back) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/bin/true", "/bin/true"),
        ("/caf\u00e9".encode(), "/caf\u00e9"),
        (b"/a\nb", "/a\\x0ab"),
        (b"/a\\x0ab", "/a\\\\x0ab"),
        (b"/\xff", "/\\xff"),
        (b"/\xed\xa0\x80", "/\\xed\\xa0\\x80"),
        ("/\u202ecod.exe".encode(), "/\\xe2\\x80\\xaecod.exe"),
        (b"/\x1b[2J", "/\\x1b[2J"),
    ],
)
def test_how_names_are_shown(name, shown):
    assert display_name(name) == shown
    record = next(read_records([ng(name).binary()], ListLayout()))
    assert display_line(record).endswith(" " + shown)
