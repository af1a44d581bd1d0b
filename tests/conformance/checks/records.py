"""What is in the lists: binary against ASCII, bank against bank, violations, and what is dropped as known."""

import struct
from collections.abc import Iterator
from typing import Any

from tests.conformance.bench import Bench, command, outcome, read
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

BANKS = {"sha1": 20, "sha256": 32}


def _records(content: bytes, size: int) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Register, digest, template name and template data of each record."""
    offset = 0
    while offset < len(content):
        pcr, digest, length = struct.unpack_from(f"<I{size}sI", content, offset)
        offset += 8 + size
        name = content[offset : offset + length]
        (count,) = struct.unpack_from("<I", content, offset + length)
        offset += length + 4 + count
        yield pcr, digest, name, content[offset - count : offset]


def _digests(bench: Bench, bank: str) -> list[bytes]:
    return [digest for _, digest, _, _ in _records(read(bench.file("binary", bank)), BANKS[bank])]


def _violations(bench: Bench) -> int:
    return int(read(bench.root / "violations"))


@check
def the_binary_lists(bench: Bench) -> Any:
    """Byte by byte: both runs measure files of the same names and contents."""
    bench.measure(2)
    return {bank: read(bench.file("binary", bank)).hex() for bank in BANKS}


@check
def the_ascii_lists(bench: Bench) -> Any:
    bench.measure(2)
    return {bank: read(bench.file("ascii", bank)).decode() for bank in BANKS}


@check
def the_staged_lists(bench: Bench) -> Any:
    bench.measure(2)
    command(bench.staged, b"A\n")
    return {
        f"{form} {bank}": read(bench.file(form, bank, staged=True)).hex()
        for form in ("ascii", "binary")
        for bank in BANKS
    }


@check
def binary_against_ascii(bench: Bench) -> Any:
    """Register, digest and template name of each line are those of the record."""
    bench.measure(5)
    results = {}
    for bank, size in BANKS.items():
        lines = [line.split(b" ") for line in read(bench.file("ascii", bank)).splitlines()]
        records = list(_records(read(bench.file("binary", bank)), size))
        same = [
            [int(line[0]), bytes.fromhex(line[1].decode()), line[2]] == [pcr, digest, name]
            for line, (pcr, digest, name, _) in zip(lines, records, strict=True)
        ]
        results[bank] = [len(records), all(same)]
    return results


@check
def banks_against_each_other(bench: Bench) -> Any:
    """All but the digests is the same."""
    bench.measure(3)
    rest = []
    for bank, size in BANKS.items():
        records = _records(read(bench.file("binary", bank)), size)
        rest.append([(pcr, name, data) for pcr, _, name, data in records])
    return [len(rest[0]), rest[0] == rest[1]]


@check
def links_show_sha1(bench: Bench) -> Any:
    bench.measure(2)
    same = [read(bench.root / f"{form}_runtime_measurements") == read(bench.file(form)) for form in ("ascii", "binary")]
    command(bench.staged, b"A\n")
    for form in ("ascii", "binary"):
        same.append(read(bench.root / f"{form}_runtime_measurements_staged") == read(bench.file(form, staged=True)))
    return same


@check
def names_with_odd_bytes(bench: Bench) -> Any:
    """Spaces, newlines, quotes, backslashes, control characters and bytes that are no text."""
    for label in ("a b", "a\nb", "a\\b", 'a"b', "a\tb", "a\x7fb", "a\x01b", "\u00e4\u20ac", "a\udcffb", "_", "%s"):
        bench.measure_file(bench.make(label))
    return [read(bench.file(form)).hex() for form in ("ascii", "binary")]


@check
def an_empty_file(bench: Bench) -> Any:
    bench.measure_file(bench.make(content=b""))
    return read(bench.file("ascii", "sha256")).decode()


@check
def a_violation(bench: Bench) -> Any:
    before = _violations(bench)
    bench.violate()
    contents = {f"{form} {bank}": read(bench.file(form, bank)).hex() for form in ("ascii", "binary") for bank in BANKS}
    return [_violations(bench) - before, bench.counters(), contents]


@check
def violations_are_counted_for_good(bench: Bench) -> Any:
    before = _violations(bench)
    seen = []
    bench.violate()
    bench.violate()
    seen.append(_violations(bench) - before)
    command(bench.staged, b"A\n")
    seen.append(_violations(bench) - before)
    command(bench.staged, b"D\n")
    bench.measure(1)
    return [*seen, _violations(bench) - before, bench.counters()]


@check
def the_violations_text(bench: Bench) -> Any:
    text = read(bench.root / "violations").decode()
    return [text.strip().isdigit(), text[len(text.strip()) :]]


@check
def a_violation_is_never_dropped(bench: Bench) -> Any:
    """Of one file, twice."""
    before = _violations(bench)
    for _ in range(2):
        bench.violate_file(bench.make("same"))
    return [_violations(bench) - before, bench.counters()]


@check
def measured_twice(bench: Bench) -> Any:
    """The same name and content again is known."""
    for _ in range(2):
        bench.measure_file(bench.make("same"))
    return bench.counters()


@check
def measured_again_after_deletion(bench: Bench) -> Any:
    """By number, which leaves the hash table as it is; EINVAL where it is to be flushed."""
    bench.measure_file(bench.make("same"))
    result = outcome(command, bench.plain, b"1\n")
    bench.measure_file(bench.make("same"))
    return [result, bench.counters()]


@check
def measured_again_when_staged(bench: Bench) -> Any:
    bench.measure_file(bench.make("same"))
    command(bench.staged, b"A\n")
    bench.measure_file(bench.make("same"))
    return bench.counters()


@check
def measured_again_after_staged_deletion(bench: Bench) -> Any:
    """This is what ``ima_flush_htable`` changes."""
    for label in ("same", "other"):
        bench.measure_file(bench.make(label))
    command(bench.staged, b"A\n")
    bench.measure_file(bench.make("third"))
    command(bench.staged, b"D\n")
    for label in ("same", "other", "third"):
        bench.measure_file(bench.make(label))
    return [bench.counters(), [line.rpartition(b"-")[2].decode() for line in read(bench.file("ascii")).splitlines()]]


@check
def the_same_content_under_another_name(bench: Bench) -> Any:
    for label in ("one", "two"):
        bench.measure_file(bench.make(label, b"same"))
    return bench.counters()


@check
def another_content_under_the_same_name(bench: Bench) -> Any:
    for content in (b"one", b"two", b"one"):
        bench.measure_file(bench.make("same", content))
    return bench.counters()


@check
def digests_differ_from_record_to_record(bench: Bench) -> Any:
    bench.measure(5)
    return {bank: len(set(_digests(bench, bank))) for bank in BANKS}


@check
def many_records(bench: Bench) -> Any:
    """Staged, measured, read and deleted, two hundred of them."""
    bench.measure(150)
    whole = read(bench.plain)
    command(bench.staged, b"A\n")
    bench.measure(50)
    return [read(bench.staged) == whole, bench.counters(), len(whole), len(read(bench.plain))]
