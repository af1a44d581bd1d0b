"""lseek(2) on lists and counters."""

import os
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, opened, read
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

FAR = 1 << 40


@check
def seeking_and_reading(bench: Bench) -> Any:
    """From the start and from here, forwards and backwards, into the middle of records."""
    bench.measure(4)
    whole = read(bench.plain)
    with opened(bench.plain, RD) as descriptor:
        seen = []
        for offset, whence in (
            (150, os.SEEK_SET),
            (-40, os.SEEK_CUR),
            (3, os.SEEK_CUR),
            (0, os.SEEK_SET),
            (1, os.SEEK_SET),
        ):
            place = os.lseek(descriptor, offset, whence)
            seen.append([place, os.read(descriptor, 30) == whole[place : place + 30]])
    return seen


@check
def seeking_from_the_end(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.plain, RD) as descriptor:
        return [attempt(os.lseek, descriptor, offset, os.SEEK_END) for offset in (0, -10, 10)]


@check
def seeking_for_data_and_holes(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.plain, RD) as descriptor:
        return [attempt(os.lseek, descriptor, 0, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE, 9)]


@check
def seeking_below_zero(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.plain, RD) as descriptor:
        results = [attempt(os.lseek, descriptor, -1, os.SEEK_SET), attempt(os.lseek, descriptor, -1, os.SEEK_CUR)]
        return [*results, len(os.read(descriptor, 10)), os.lseek(descriptor, 0, os.SEEK_CUR)]


@check
def seeking_beyond_the_end(bench: Bench) -> Any:
    bench.measure(1)
    size = len(read(bench.plain))
    with opened(bench.plain, RD) as descriptor:
        seen = []
        for place in (size, size + 1, FAR):
            seen.append([os.lseek(descriptor, place, os.SEEK_SET) == place, len(os.read(descriptor, 10))])
        return [*seen, os.lseek(descriptor, 0, os.SEEK_SET), len(os.read(descriptor, 10))]


@check
def seeking_in_a_file_opened_for_write(bench: Bench) -> Any:
    results = []
    for mode in (WR, RW):
        with opened(bench.staged, mode) as descriptor:
            results += [attempt(os.lseek, descriptor, offset, os.SEEK_SET) for offset in (5, 0)]
            results.append(attempt(os.lseek, descriptor, 0, os.SEEK_CUR))
    return results


@check
def seeking_in_an_empty_list(bench: Bench) -> Any:
    with opened(bench.staged, RD) as descriptor:
        return [os.lseek(descriptor, place, os.SEEK_SET) for place in (0, 1, 100)] + [len(os.read(descriptor, 10))]


@check
def seeking_in_a_counter(bench: Bench) -> Any:
    bench.measure(12)
    with opened(bench.root / "runtime_measurements_count", RD) as descriptor:
        seen = [attempt(os.lseek, descriptor, 1, os.SEEK_SET), os.read(descriptor, 10).decode()]
        seen += [attempt(os.lseek, descriptor, place, os.SEEK_END) for place in (0, -1)]
        return [*seen, attempt(os.lseek, descriptor, 100, os.SEEK_SET), os.read(descriptor, 10).decode()]


@check
def seeking_back_over_a_page(bench: Bench) -> Any:
    bench.measure(60)
    whole = read(bench.plain)
    with opened(bench.plain, RD) as descriptor:
        seen = []
        for place in (5000, 4096, 4095, 100, len(whole) - 10, 0):
            os.lseek(descriptor, place, os.SEEK_SET)
            part = os.read(descriptor, 200)
            seen.append([len(part), part == whole[place : place + len(part)]])
    return seen


@check
def seeking_to_where_nothing_is_yet(bench: Bench) -> Any:
    """And reading there after something was measured."""
    bench.measure(1)
    size = len(read(bench.plain))
    with opened(bench.plain, RD) as descriptor:
        os.lseek(descriptor, size, os.SEEK_SET)
        before = len(os.read(descriptor, 10))
        bench.measure(1)
        return [before, len(os.read(descriptor, 4096)) == len(read(bench.plain)) - size]
