"""Reading as seq_file does it, without a file system: any sequence of reads gives the bytes that are there."""

from hypothesis import given
from hypothesis import strategies as st

from imarium.securityfs.tree.seqfile import PAGE, Marks, SeqFile


class Records:
    def __init__(self, records):
        self.records = list(records)
        self.version = 0
        self.shown = 0

    def __call__(self, index):
        self.shown += 1
        return self.records[index] if index < len(self.records) else None


def opened(records):
    return SeqFile(lambda: records)


def drained(file, size, position=0):
    parts = []
    while part := file.read(position, size):
        parts.append(part)
        position += len(part)
    return parts


SOME = st.lists(st.binary(min_size=1, max_size=3 * PAGE), max_size=12)


@given(SOME, st.integers(1, 3 * PAGE))
def test_reading_on_gives_everything(records, size):
    parts = drained(opened(Records(records)), size)
    assert b"".join(parts) == b"".join(records)
    assert all(len(part) <= size for part in parts)


@given(SOME, st.lists(st.tuples(st.integers(0, 20 * PAGE), st.integers(1, 2 * PAGE)), max_size=20))
def test_reading_anywhere_gives_what_is_there(records, reads):
    whole, file = b"".join(records), opened(Records(records))
    for position, size in reads:
        part = file.read(position, size)
        assert part == whole[position : position + len(part)]
        assert bool(part) == (position < len(whole))
        assert len(part) <= size


def test_a_read_gives_whole_records_up_to_a_page():
    records = [bytes([number]) * 1000 for number in range(10)]
    assert [len(part) for part in drained(opened(Records(records)), 1 << 17)] == [4000, 4000, 2000]
    assert [len(part) for part in drained(opened(Records(records)), 4096)] == [4000, 4000, 2000]
    assert [len(part) for part in drained(opened(Records(records)), 1500)] == [1500] * 6 + [1000]


def test_a_page_grows_for_a_record_that_does_not_fit_and_stays_so():
    records = [b"a" * 100, b"b" * PAGE, b"c" * 100, b"d" * 5000]
    assert [len(part) for part in drained(opened(Records(records)), 1 << 17)] == [100, PAGE + 100, 5000]
    exactly = [b"a" * (PAGE - 1), b"b"]
    assert [len(part) for part in drained(opened(Records(exactly)), 1 << 17)] == [PAGE - 1, 1]


def test_records_that_come_later_are_seen_by_who_reads_on():
    records = Records([b"one", b"two"])
    file = opened(records)
    assert file.read(0, 100) == b"onetwo"
    assert file.read(6, 100) == b""
    records.records.append(b"three")
    assert file.read(6, 100) == b"three"
    assert file.read(0, 100) == b"onetwothree"


def test_a_place_that_was_behind_the_end_is_where_reading_goes_on():
    """As the kernel: it has counted records, not bytes."""
    records = Records([b"one"])
    file = opened(records)
    assert file.read(1000, 10) == b""
    records.records.append(b"two")
    assert file.read(1000, 10) == b"two"


def test_what_is_left_of_a_record_is_given_although_the_record_is_gone():
    records = Records([b"first", b"second"])
    file = opened(records)
    assert file.read(0, 2) == b"fi"
    records.records, records.version = [b"second"], 1
    assert file.read(2, 10) == b"rst"
    assert file.read(0, 10) == b"second"


def test_going_back_does_not_begin_at_the_start():
    records = Records([b"%06d" % number for number in range(50_000)])
    file = opened(records)
    drained(file, 1 << 17)
    records.shown = 0
    for number in (40_000, 12_345, 49_999, 0, 1023, 1024, 1025):
        assert file.read(6 * number + 3, 6)[:3] == (b"%06d" % number)[3:]
    assert records.shown < 7 * 1100
    records.version = 1
    records.shown = 0
    assert file.read(6 * 40_000, 6) == b"040000"
    assert records.shown > 40_000


def test_who_shares_marks_does_not_begin_at_the_start_either():
    records, marks = Records([b"%06d" % number for number in range(50_000)]), Marks()
    assert SeqFile(lambda: records, marks).read(6 * 49_000, 6) == b"049000"
    records.shown = 0
    other = SeqFile(lambda: records, marks)
    assert other.read(6 * 48_000, 6) == b"048000"
    assert other.read(0, 6) == b"000000"
    assert other.read(6, 6) == b"000001"
    assert records.shown < 2 * 1100


def test_who_was_behind_the_end_leads_nobody_astray():
    records, marks = Records([]), Marks()
    behind = SeqFile(lambda: records, marks)
    assert behind.read(1000, 10) == b""
    records.records = [b"%d\n" % number for number in range(9000)]
    assert b"".join(drained(behind, 1 << 17, 1000)) == b"".join(records.records)
    found_by_others(records, marks)


def test_who_reads_on_after_a_deletion_leads_nobody_astray():
    records, marks = Records([b"%d\n" % number for number in range(9000)]), Marks()
    deleting = SeqFile(lambda: records, marks)
    position = len(deleting.read(0, 3000))
    records.records, records.version = records.records[500:], 1
    drained(deleting, 1 << 17, position)
    found_by_others(records, marks)


def found_by_others(records, marks):
    other, whole = SeqFile(lambda: records, marks), b"".join(records.records)
    for place in (30_000, 12_345, 5_000, 20_000):
        part = other.read(place, 100)
        assert part == whole[place : place + len(part)]
