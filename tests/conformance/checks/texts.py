"""What a command may look like: its length, its digits, what surrounds it, where it is written."""

import ctypes
import os
from pathlib import Path
from typing import Any

from tests.conformance.bench import RW, WR, Bench, checked, command, libc, opened, outcome
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

MOST = (1 << 64) - 1
_LONG = 40


def _shown(text: bytes) -> str:
    return ascii(text) if len(text) < _LONG else f"{text[:4]!a}... {len(text)} bytes"


def _numbers(bench: Bench, *texts: bytes) -> Any:
    """The outcome of each text on the current list, which has three records at first, and the counter after it."""
    bench.measure(3)
    results = {}
    for text in texts:
        result = outcome(command, bench.plain, text)
        results[_shown(text)] = [result, bench.counters()[0]]
    return results


def _commands(bench: Bench, *texts: bytes) -> Any:
    """The outcome of each text on the staged list, when two records are staged and three current."""
    bench.arrange("both")
    return {_shown(text): [outcome(command, bench.staged, text), *bench.counters()] for text in texts}


for _name, _texts in {
    "numbers_with_a_plus": (b"+1\n", b"++1\n", b"+\n", b"+0\n"),
    "numbers_with_a_minus": (b"-1\n", b"-0\n", b"-\n"),
    "numbers_with_spaces": (b" 1\n", b"1 \n", b"\t1\n", b" \n", b"1 1\n"),
    "numbers_in_hexadecimal": (b"0x1\n", b"0X1\n", b"x1\n", b"a\n"),
    "numbers_with_leading_zeros": (b"01\n", b"0000000000000000001\n", b"00000000000000000001\n"),
    "numbers_of_zero": (b"0\n", b"00\n", b"00000000000000000000\n"),
    "numbers_at_the_limit": (b"%d\n" % (MOST - 1), b"%d\n" % MOST, b"%d\n" % (MOST + 1)),
    "numbers_beyond_the_limit": (b"99999999999999999999\n", b"184467440737095516150\n", b"36893488147419103233\n"),
    "numbers_in_other_forms": (b"1e0\n", b"1.0\n", b"1_0\n", b"1,0\n", b"0b1\n", b"0o1\n", b"1u\n", b"1L\n"),
    "numbers_without_newline": (b"1", b"12", b"11111111111111111111"),
    "numbers_with_two_newlines": (b"1\n\n", b"\n1\n", b"\n\n"),
    "numbers_with_a_carriage_return": (b"1\r\n", b"1\r"),
    "numbers_with_a_nul": (b"1\0\n", b"1\n\0", b"\0\n", b"1\0"),
    "numbers_behind_a_newline": (b"1\n1\n", b"1\nx\n", b"1\nx"),
    "numbers_of_19_to_24_bytes": tuple(b"1".rjust(size - 1, b"0") + b"\n" for size in range(19, 25)),
    "a_newline_alone": (b"\n",),
    "numbers_of_a_page": (b"1".rjust(4095, b"0") + b"\n", b"1\n".ljust(4096, b"\0"), b"x" * 200_000),
}.items():
    CHECKS.add(_name, _numbers, *_texts)

for _name, _texts in {
    "commands_in_small_letters": (b"a\n", b"d\n"),
    "commands_without_newline": (b"A", b"D", b"DD"),
    "commands_with_spaces": (b"D \n", b" D\n", b"D\t\n"),
    "commands_with_two_newlines": (b"D\n\n", b"\nD\n", b"A\n\n"),
    "commands_doubled": (b"DD\n", b"D\nD\n", b"A\nD\n", b"D\nA\n"),
    "commands_with_a_nul": (b"D\0", b"D\0\n", b"D\n\0"),
    "commands_with_a_carriage_return": (b"D\r\n", b"D\r"),
    "commands_of_21_and_22_bytes": (b"D".ljust(20) + b"\n", b"D".ljust(21) + b"\n", b"D\n".ljust(21), b"D" * 21),
    "commands_of_a_page": (b"D\n".ljust(4096), b"D" * 4095 + b"\n", b"D\n" * 100_000),
    "commands_of_other_letters": (b"B\n", b"X\n", b"?\n", b"\xff\n", b"\n\n", b"0\n"),
    "a_newline_alone_on_the_staged_list": (b"\n",),
}.items():
    CHECKS.add(_name, _commands, *_texts)


@check
def errors_that_fit_together_on_the_staged_list(bench: Bench) -> Any:
    """Wrong texts when nothing is there, and when something is staged and nothing is current."""
    texts = (b"A\n", b"D\n", b"A", b"AA\n", b"1\n", b"x" * 22, b"A\n".ljust(22))
    empty = [outcome(command, bench.staged, text) for text in texts]
    bench.arrange("staged")
    return [empty, outcome(command, bench.staged, b"A\n"), bench.counters()]


@check
def errors_that_fit_together_on_the_current_list(bench: Bench) -> Any:
    texts = (b"0\n", b"1\n", b"%d\n" % MOST, b"%d\n" % (MOST + 1), b"x\n", b"1", b"A\n", b"1".rjust(21, b"0") + b"\n")
    return [outcome(command, bench.plain, text) for text in texts]


@check
def a_text_that_cannot_be_read(bench: Bench) -> Any:
    """Of a good length, where no memory is."""
    return [outcome(write_unreadable, path, size) for path in (bench.staged, bench.plain) for size in (2, 21)]


def write_unreadable(path: Path, size: int) -> int:
    """One write(2) from an address at which nothing is. Raises OSError."""
    library = libc()
    library.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    with opened(path, WR) as descriptor:
        return checked(library.write(descriptor, 8, size))


@check
def commands_after_a_seek(bench: Bench) -> Any:
    """The position plays no part."""
    bench.measure(3)
    with opened(bench.plain, WR) as descriptor:
        os.lseek(descriptor, 1000, os.SEEK_SET)
        deleted = outcome(os.write, descriptor, b"1\n")
    with opened(bench.staged, WR) as descriptor:
        os.lseek(descriptor, 1, os.SEEK_SET)
        return [deleted, outcome(os.write, descriptor, b"A\n"), _after(bench, descriptor)]


def _after(bench: Bench, descriptor: int) -> Any:
    """The counter, which is no list and so not locked, and what ``D`` gives through the same descriptor."""
    count = (bench.root / "runtime_measurements_count").read_bytes().decode()
    return [count, outcome(os.write, descriptor, b"D\n")]


@check
def commands_while_appending(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.staged, WR | os.O_APPEND) as descriptor:
        return [outcome(os.write, descriptor, b"A\n"), outcome(os.write, descriptor, b"D\n")]


@check
def commands_after_reading(bench: Bench) -> Any:
    """Through one descriptor that was read to its end."""
    bench.measure(2)
    with opened(bench.plain, RW) as descriptor:
        before = len(os.read(descriptor, 1 << 16))
        result = outcome(os.write, descriptor, b"1\n")
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [before, result, len(os.read(descriptor, 1 << 16))]


@check
def counters_while_the_lock_is_held(bench: Bench) -> Any:
    """The counter and the violations can always be read."""
    bench.measure(2)
    with opened(bench.staged, WR):
        names = ("runtime_measurements_count", "violations")
        return [outcome((bench.root / name).read_bytes) for name in names]
