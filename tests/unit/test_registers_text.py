"""The rules of event text, and replay of logs against values."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imarium.errors import MalformedInput, UsageError
from imarium.hashes import SHA256, SHA384
from imarium.registers import TextTooLong, verify
from imarium.registers.replay import Gap, last_value
from imarium.registers.text import PAGE, Kind, event_lines, extend_line, read_lines, sync_line

RULES = [
    (b"", ()),
    (b"\n\r\n \t\n", ()),
    (b"a", (b"a",)),
    (b"a\n", (b"a",)),
    (b"a\nb", (b"a", b"b")),
    (b"a\rb", (b"a", b"b")),
    (b"a\r\nb\r\n", (b"a", b"b")),
    (b"  a \t\v\f\n", (b"a",)),
    (b"a  b", (b"a  b",)),
    (b" # c ", (b"# c",)),
    (b"#", (b"#",)),
    (b"a # b", (b"a # b",)),
    (b"\xff\xfe\x01", (b"\xff\xfe\x01",)),
    (b"\xc2\xa0a", (b"\xc2\xa0a",)),
    (b"x" * PAGE, (b"x" * PAGE,)),
    (b"x" * (PAGE - 1) + b"\n", (b"x" * (PAGE - 1),)),
]


@pytest.mark.parametrize(("text", "lines"), RULES)
def test_text_is_split_trimmed_and_emptied_of_empty_lines(text, lines):
    assert event_lines(text) == lines


def test_rfc_fault_a_buffer_one_byte_short():
    text = b"x" * (PAGE - 1) + b"y"
    assert event_lines(text) == (text,)
    with pytest.raises(TextTooLong):
        event_lines(text + b"z")


def test_text_with_a_nul_is_refused():
    with pytest.raises(UsageError, match="byte 1"):
        event_lines(b"a\0b")


@given(st.binary(max_size=200).filter(lambda text: b"\0" not in text))
def test_lines_have_no_breaks_no_outer_spaces_and_lose_nothing_else(text):
    lines = event_lines(text)
    assert all(line and line.strip() == line and not set(line) & set(b"\n\r") for line in lines)
    assert b"".join(b"".join(lines).split()) == b"".join(text.split())


def lines_of(log: bytes, algorithm=SHA256):
    return list(read_lines([log], algorithm))


def test_lines_of_a_log_are_told_by_kind():
    digest = bytes(range(32))
    log = b"\n".join(
        [sync_line(SHA256, digest), b"# note", b"", extend_line(digest), b"event", b"SYNC sha384/00", b"SYNC sha256/XY"]
    )
    found = lines_of(log + b"\n# .EXTEND 00\ntorn")
    kinds = [Kind.SYNC, Kind.COMMENT, Kind.BLANK, Kind.EXTENDED, Kind.EVENT, Kind.EVENT, Kind.EVENT, Kind.COMMENT]
    assert [line.kind for line in found] == kinds
    assert [line.number for line in found] == list(range(1, 9))
    assert found[0].value == found[3].value == digest
    assert found[-1].end == len(log + b"\n# .EXTEND 00\n")
    assert sync_line(SHA256, digest) == b"SYNC sha256/" + digest.hex().encode()
    assert extend_line(digest) == b"# .EXTEND " + digest.hex().encode()


@given(st.binary(max_size=300), st.integers(1, 7))
def test_any_bytes_are_read_alike_in_any_blocks(log, size):
    blocks = [log[at : at + size] for at in range(0, len(log), size)]
    assert list(read_lines(blocks, SHA384)) == lines_of(log, SHA384)


def test_a_line_of_more_than_a_page_is_malformed():
    with pytest.raises(MalformedInput):
        lines_of(b"x" * (PAGE + 1))
    assert len(lines_of(b"x" * PAGE + b"\n")) == 1


class Written:
    """A log as a program written from the RFC alone would make it, with the register's value."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.log = b""

    def add(self, *lines: bytes) -> "Written":
        for line in lines:
            self.log += line + b"\n"
            if line and not line.startswith(b"#"):
                self.value = SHA256.digest(self.value + SHA256.digest(line))
        return self

    def sync(self) -> "Written":
        return self.add(sync_line(SHA256, self.value))

    def extend(self, digest: bytes, *, noted: bool = True) -> "Written":
        self.value = SHA256.digest(self.value + digest)
        return self.add(b"", extend_line(digest)) if noted else self

    def verify(self, start=None, value=None):
        return verify(lines_of(self.log), SHA256, value or self.value, start=start)


def test_a_whole_log_replays():
    done = Written(bytes(32)).sync().add(b"a", b"# c", b"", b"b").verify()
    assert (done.start, done.covered, done.events, done.unverified, done.gaps) == (1, 5, 3, 0, ())
    assert done.in_step


def test_a_log_replays_from_any_sync_line():
    log = Written(b"\1" * 32).sync().add(b"a").extend(b"\2" * 32).sync().add(b"b").extend(bytes(32)).sync().add(b"c")
    syncs = [line.number for line in lines_of(log.log) if line.kind is Kind.SYNC]
    assert len(syncs) == 3
    for start in syncs:
        assert log.verify(start).in_step
    whole = log.verify()
    assert whole.in_step
    assert whole.gaps == tuple(Gap(line, explained=True) for line in syncs[1:])


def test_a_start_that_is_no_sync_line_begins_nowhere():
    log = Written(bytes(32)).sync().add(b"a")
    assert log.verify(2).start is None
    assert log.verify(9).start is None
    assert not log.verify(2).in_step


def test_an_extend_that_is_not_logged_is_a_gap_and_the_log_replays_behind_it():
    log = Written(bytes(32)).sync().add(b"a").extend(bytes(32), noted=False)
    assert log.verify().covered is None
    log.sync().add(b"b")
    assert log.verify().gaps == (Gap(3, explained=False),)
    assert not log.verify().in_step
    assert log.verify(3).in_step


def test_a_noted_extend_leaves_the_log_out_of_step():
    log = Written(bytes(32)).sync().add(b"a").extend(b"\7" * 32)
    done = log.verify()
    assert done.noted
    assert not done.in_step
    assert (done.covered, done.unverified) == (2, 0)


def test_a_false_note_explains_nothing():
    log = Written(bytes(32)).sync().add(b"a").extend(b"\7" * 32, noted=False)
    log.add(extend_line(b"\x08" * 32)).sync()
    assert not log.verify().in_step


def test_an_older_value_covers_a_prefix():
    log = Written(bytes(32)).sync().add(b"a")
    older = log.value
    log.add(b"b", b"c")
    done = log.verify(value=older)
    assert (done.covered, done.events, done.unverified) == (2, 2, 2)
    assert done.unbroken
    assert not done.in_step


@pytest.mark.parametrize("change", [(b"a\n", b"A\n"), (b"a\nb\n", b"b\na\n"), (b"a\n", b""), (b"b\n", b"b\nb\n")])
def test_a_changed_log_does_not_replay(change):
    log = Written(bytes(32)).sync().add(b"a", b"b")
    value = log.value
    log.log = log.log.replace(*change)
    assert not log.verify(value=value).in_step


def test_a_forged_sync_line_does_not_replay():
    log = Written(bytes(32)).sync().add(b"a")
    forged = Written(b"\5" * 32).sync().add(b"a")
    assert not forged.verify(value=log.value).in_step


def test_a_log_of_nothing_but_forged_sync_lines_is_replayed_in_time():
    """Anyone who may append can write them. A search that grew with their square took 20 seconds here."""
    value, lines = bytes(48), []
    for number in range(100_000):
        lines.append(sync_line(SHA384, number.to_bytes(48, "big")))
        value = SHA384.digest(number.to_bytes(48, "big") + SHA384.digest(lines[-1]))
    began = time.monotonic()
    found = verify(read_lines([b"\n".join(lines) + b"\n"], SHA384), SHA384, value)
    assert time.monotonic() - began < 10
    assert (found.covered, len(found.gaps), found.in_step) == (100_000, 99_999, False)


def test_events_before_the_first_sync_line_are_not_vouched_for():
    log = Written(bytes(32)).add(b"a").sync().add(b"b")
    assert not log.verify().in_step
    assert log.verify(2).in_step


def test_an_empty_log_vouches_for_nothing():
    assert not Written(bytes(32)).verify().in_step


@given(st.lists(st.sampled_from(["event", "comment", "extend", "foreign", "sync"]), max_size=12))
def test_replay_from_the_last_sync_line_is_whole_exactly_without_extends_behind_it(steps):
    log = Written(bytes(32)).sync()
    for step in steps:
        match step:
            case "event":
                log.add(b"event")
            case "comment":
                log.add(b"# comment")
            case "extend":
                log.extend(b"\1" * 32)
            case "foreign":
                log.extend(b"\2" * 32, noted=False)
            case _:
                log.sync()
    after = steps[::-1][: steps[::-1].index("sync")] if "sync" in steps else steps
    last = [line.number for line in lines_of(log.log) if line.kind is Kind.SYNC][-1]
    clean = not {"extend", "foreign"} & set(after)
    assert log.verify(last).in_step == clean
    assert (last_value(lines_of(log.log), SHA256) == (len(log.log), log.value)) == clean
