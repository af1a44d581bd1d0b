"""Readers and writers: who gets in while who is in, by mode, by file and by task."""

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, in_process, in_thread, opened, opens
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

MODES = {"read": RD, "write": WR, "both": RW}
WHO: dict[str, Callable[[Callable[[], str]], Any]] = {
    "the_same_task": lambda call: call(),
    "another_thread": in_thread,
    "another_process": in_process,
}


def _second(bench: Bench, first: int, second: int, who: str) -> Any:
    """Opening the same file, another form of it, and the staged file, while one is open."""
    files = (bench.plain, bench.file("ascii", "sha256"), bench.staged)
    with opened(bench.plain, first):
        return [WHO[who](partial(opens, path, second)) for path in files]


for _first, _first_mode in MODES.items():
    for _second_name, _second_mode in MODES.items():
        for _who in WHO:
            CHECKS.add(f"{_second_name}_while_{_first}_by_{_who}", _second, _first_mode, _second_mode, _who)


@check
def a_hundred_readers(bench: Bench) -> Any:
    descriptors = [os.open(bench.file("binary", bank), RD) for bank in ("sha1", "sha256") for _ in range(50)]
    while_open = opens(bench.staged, WR)
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    with_one = opens(bench.staged, WR)
    os.close(descriptors[0])
    return [while_open, with_one, opens(bench.staged, WR)]


@check
def the_lock_goes_with_the_writers_descriptor(bench: Bench) -> Any:
    with opened(bench.plain, WR):
        pass
    return [opens(bench.plain, RD), in_process(lambda: opens(bench.staged, WR))]


@check
def the_writer_closes_its_first_file_first(bench: Bench) -> Any:
    first = os.open(bench.staged, WR)
    second = os.open(bench.plain, RW)
    os.close(first)
    results = [in_process(lambda: opens(bench.plain, RD)), opens(bench.file("ascii"), WR), opens(bench.plain, RD)]
    os.close(second)
    return [*results, in_process(lambda: opens(bench.plain, RD))]


@check
def the_writer_closes_its_second_file_first(bench: Bench) -> Any:
    first = os.open(bench.staged, WR)
    os.close(os.open(bench.plain, RW))
    results = [in_process(lambda: opens(bench.plain, RD)), opens(bench.plain, WR)]
    os.close(first)
    return [*results, in_process(lambda: opens(bench.plain, RD))]


@check
def a_writer_that_ended_may_be_followed(bench: Bench) -> Any:
    in_process(lambda: str(os.open(bench.staged, WR)))
    return [opens(bench.staged, WR), opens(bench.plain, RD)]


@check
def a_refused_open_leaves_no_lock(bench: Bench) -> Any:
    with opened(bench.plain, RD):
        refused = [opens(bench.staged, WR), opens(bench.plain, RW)]
    with opened(bench.staged, WR):
        refused += [in_process(partial(opens, bench.plain, mode)) for mode in (RD, WR, RW)]
        refused.append(opens(bench.plain, RD))
    return [refused, in_process(lambda: opens(bench.plain, RD)), in_process(lambda: opens(bench.staged, WR))]


@check
def looking_at_a_file_takes_no_lock(bench: Bench) -> Any:
    """stat(2) and O_PATH while a writer is in, and the other way round."""
    with opened(bench.plain, WR):
        paths = [attempt(lambda: os.stat(bench.plain).st_size), opens(bench.plain, os.O_PATH)]
    with opened(bench.plain, os.O_PATH):
        return [*paths, in_process(lambda: opens(bench.plain, WR))]


@check
def counters_take_no_lock(bench: Bench) -> Any:
    names = ("violations", "runtime_measurements_count")
    with opened(bench.plain, WR):
        inside = [in_process(partial(opens, bench.root / name, RD)) for name in names]
    with opened(bench.root / names[0], RD), opened(bench.root / names[1], RD):
        return [inside, opens(bench.staged, WR)]


@check
def links_are_the_files_they_lead_to(bench: Bench) -> Any:
    with opened(bench.root / "binary_runtime_measurements", RD):
        reader = opens(bench.root / "ascii_runtime_measurements_staged", WR)
    with opened(bench.root / "ascii_runtime_measurements_staged", WR):
        return [reader, in_process(lambda: opens(bench.root / "binary_runtime_measurements", RD))]


@check
def a_thread_that_ended_and_left_its_file_open(bench: Bench) -> Any:
    """The lock is held by the file, but its task is no more."""
    opened_there: list[int] = []
    thread = threading.Thread(target=lambda: opened_there.append(os.open(bench.staged, WR)))
    thread.start()
    thread.join()
    results = [opens(bench.plain, WR), in_thread(lambda: opens(bench.plain, WR)), opens(bench.plain, RD)]
    os.close(opened_there[0])
    return [*results, opens(bench.plain, RD)]


@check
def two_tasks_take_turns(bench: Bench) -> Any:
    results = []
    for _ in range(10):
        results += [
            in_process(lambda: opens(bench.staged, WR)),
            opens(bench.plain, RW),
            in_thread(lambda: opens(bench.plain, WR)),
        ]
    return sorted(set(results))
