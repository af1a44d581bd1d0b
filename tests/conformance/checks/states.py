"""Every command in every state of the lists, and the counters after it."""

import os
from typing import Any

from tests.conformance.bench import RW, Bench, attempt, command, opened, outcome, read
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

STATES = ("empty", "current", "staged", "both")
"""See :meth:`Bench.arrange`: two records are staged, three current."""

COMMANDS = {
    "stage": ("staged", b"A\n"),
    "delete_staged": ("staged", b"D\n"),
    "delete_one": ("current", b"1\n"),
    "delete_all": ("current", b"3\n"),
    "delete_one_too_many": ("current", b"4\n"),
    "delete_none": ("current", b"0\n"),
    "delete_the_most": ("current", b"18446744073709551615\n"),
    "delete_more_than_the_most": ("current", b"18446744073709551616\n"),
    "delete_text": ("current", b"x\n"),
    "stage_on_the_current_list": ("current", b"A\n"),
    "delete_staged_on_the_current_list": ("current", b"D\n"),
    "delete_by_number_on_the_staged_list": ("staged", b"1\n"),
    "unknown_command": ("staged", b"B\n"),
    "stage_without_newline": ("staged", b"A"),
    "delete_without_newline": ("current", b"1"),
}


def _in_state(bench: Bench, state: str, target: str, text: bytes) -> Any:
    bench.arrange(state)
    path = bench.staged if target == "staged" else bench.plain
    return [outcome(command, path, text), bench.counters()]


for _state in STATES:
    for _name, (_target, _text) in COMMANDS.items():
        CHECKS.add(f"{_name}_when_{_state}", _in_state, _state, _target, _text)


@check
def commands_on_each_file(bench: Bench) -> Any:
    """The commands work alike on the files of every form and bank."""
    results: list[Any] = []
    for form in ("ascii", "binary"):
        for bank in ("sha1", "sha256"):
            bench.measure(2)
            staged, plain = bench.file(form, bank, staged=True), bench.file(form, bank)
            results += [outcome(command, staged, b"A\n"), outcome(command, staged, b"D\n")]
            bench.measure(2)
            results += [outcome(command, plain, b"2\n"), bench.counters()]
    return results


@check
def commands_through_links(bench: Bench) -> Any:
    bench.measure(3)
    results = []
    for form in ("ascii", "binary"):
        name = f"{form}_runtime_measurements"
        results.append(outcome(command, bench.root / name, b"1\n"))
    results.append(outcome(command, bench.root / "binary_runtime_measurements_staged", b"A\n"))
    results.append(outcome(command, bench.root / "ascii_runtime_measurements_staged", b"D\n"))
    return [results, bench.counters()]


@check
def commands_read_write(bench: Bench) -> Any:
    bench.measure(3)
    return [
        outcome(command, bench.plain, b"1\n", RW),
        outcome(command, bench.staged, b"A\n", RW),
        outcome(command, bench.staged, b"D\n", RW),
        bench.counters(),
    ]


@check
def counters_through_a_life(bench: Bench) -> Any:
    """After each step."""
    seen: list[Any] = [bench.counters()]
    stage, delete = (bench.staged, b"A\n"), (bench.staged, b"D\n")
    for step in (3, (bench.plain, b"1\n"), stage, 2, (bench.plain, b"2\n"), 1, delete, stage, delete):
        if isinstance(step, int):
            bench.measure(step)
        else:
            seen.append(outcome(command, *step))
        seen.append(bench.counters())
    return seen


@check
def deleting_takes_the_oldest(bench: Bench) -> Any:
    bench.measure(4)
    before = read(bench.file("ascii")).splitlines()
    deleted = outcome(command, bench.plain, b"3\n")
    return [deleted, read(bench.file("ascii")).splitlines() == before[3:], len(before)]


@check
def staging_keeps_the_order(bench: Bench) -> Any:
    bench.measure(4)
    before = [read(bench.file(form, bank)) for form in ("ascii", "binary") for bank in ("sha1", "sha256")]
    command(bench.staged, b"A\n")
    after = [read(bench.file(form, bank, staged=True)) for form in ("ascii", "binary") for bank in ("sha1", "sha256")]
    return [before == after, [len(content) for content in after]]


@check
def command_twice_on_one_descriptor(bench: Bench) -> Any:
    bench.measure(3)
    with opened(bench.staged, RW) as descriptor:
        results = [_write(descriptor, text) for text in (b"A\n", b"A\n", b"D\n", b"D\n", b"A\n")]
    return [results, bench.counters()]


@check
def deleting_twice_on_one_descriptor(bench: Bench) -> Any:
    bench.measure(5)
    with opened(bench.plain, RW) as descriptor:
        results = [_write(descriptor, text) for text in (b"2\n", b"x\n", b"2\n", b"2\n", b"1\n")]
    return [results, bench.counters()]


@check
def measuring_between_commands_on_one_descriptor(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.staged, RW) as descriptor:
        results = [_write(descriptor, b"A\n")]
        bench.measure(2)
        results += [_write(descriptor, text) for text in (b"A\n", b"D\n", b"A\n", b"D\n")]
    return [results, bench.counters()]


@check
def results_of_write(bench: Bench) -> Any:
    """How many bytes write(2) says it took."""
    bench.measure(3)
    commands = ((bench.plain, b"1\n"), (bench.plain, b"0001\n"), (bench.staged, b"A\n"))
    return [attempt(command, *found) for found in commands]


def _write(descriptor: int, text: bytes) -> str:
    return outcome(os.write, descriptor, text)
