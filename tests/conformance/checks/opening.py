"""Who may open what, and with which flags."""

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, checked, in_process, libc, opened, opens, outcome
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

NAMES = (
    "binary_runtime_measurements_sha1",
    "ascii_runtime_measurements_sha256",
    "binary_runtime_measurements_sha1_staged",
    "ascii_runtime_measurements",
    "runtime_measurements_count",
    "violations",
)
CAP_SYS_ADMIN, CAPABILITIES = 21, 41
_CAPABILITY_VERSION_3 = 0x20080522


def _table(root: Path) -> dict[str, list[str]]:
    return {name: [opens(root / name, flags) for flags in (RD, WR, RW)] for name in NAMES}


def _as(bench: Bench, become: Callable[[], object]) -> dict[str, list[str]]:
    """The table, as seen by a child that has changed."""

    def look() -> str:
        os.chdir(bench.root)  # what is above may be closed to others
        become()
        return json.dumps(_table(Path()))

    return dict(json.loads(in_process(look)))


def _drop(*numbers: int) -> None:
    """Give up capabilities, staying root."""
    header, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    checked(libc().capget(header, data))
    for number in numbers:
        for word in range(3):
            data[3 * (number // 32) + word] &= ~(1 << number % 32) & 0xFFFFFFFF
    checked(libc().capset(header, data))


def drop_sys_admin() -> None:
    """Give up the capability that commands need."""
    _drop(CAP_SYS_ADMIN)


def _without_capability(bench: Bench) -> str:
    _drop(CAP_SYS_ADMIN)
    return opens(bench.staged, WR)


def _user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


@check
def opening_as_root(bench: Bench) -> Any:
    return _table(bench.root)


@check
def opening_as_another_user(bench: Bench) -> Any:
    return _as(bench, lambda: _user(1000, 1000))


@check
def opening_as_another_user_of_roots_group(bench: Bench) -> Any:
    return _as(bench, lambda: _user(1000, 0))


@check
def opening_without_cap_sys_admin(bench: Bench) -> Any:
    return _as(bench, lambda: _drop(CAP_SYS_ADMIN))


@check
def opening_with_cap_sys_admin_alone(bench: Bench) -> Any:
    others = set(range(CAPABILITIES)) - {CAP_SYS_ADMIN}
    return _as(bench, lambda: _drop(*others))


@check
def opening_without_any_capability(bench: Bench) -> Any:
    return _as(bench, lambda: _drop(*range(CAPABILITIES)))


@check
def writing_with_a_descriptor_opened_by_the_privileged(bench: Bench) -> Any:
    """The capability is asked for at open, not at write."""
    bench.measure(2)
    with opened(bench.staged, WR) as descriptor:

        def write() -> str:
            _drop(*range(CAPABILITIES))
            return outcome(os.write, descriptor, b"A\n")

        result = in_process(write)
    return [result, bench.counters()]


@check
def missing_capability_against_a_reader(bench: Bench) -> Any:
    """EPERM and EBUSY both fit."""
    with opened(bench.plain, RD):
        return in_process(lambda: _without_capability(bench))


@check
def missing_capability_leaves_no_lock(bench: Bench) -> Any:
    in_process(lambda: _without_capability(bench))
    return [opens(bench.staged, WR), opens(bench.plain, RD)]


@check
def flags_of_reading(bench: Bench) -> Any:
    flags = ("O_NONBLOCK", "O_APPEND", "O_NOFOLLOW", "O_CLOEXEC", "O_NOATIME", "O_SYNC", "O_PATH", "O_DIRECTORY")
    return {name: opens(bench.plain, RD | getattr(os, name)) for name in flags}


@check
def flags_of_writing(bench: Bench) -> Any:
    flags = ("O_TRUNC", "O_APPEND", "O_CREAT", "O_SYNC", "O_NONBLOCK")
    return {name: [opens(bench.staged, mode | getattr(os, name)) for mode in (WR, RW)] for name in flags}


@check
def truncating_a_file_opened_for_reading(bench: Bench) -> Any:
    bench.measure(1)
    return [opens(bench.plain, RD | os.O_TRUNC), bench.counters()]


@check
def access_mode_three(bench: Bench) -> Any:
    """O_ACCMODE itself asks for permission to read and write and gives neither."""
    return [opens(bench.plain, 3), opens(bench.root / "violations", 3)]


@check
def links_that_are_not_followed(bench: Bench) -> Any:
    return [
        opens(bench.root / "binary_runtime_measurements", RD | os.O_NOFOLLOW),
        opens(bench.root, RD | os.O_DIRECTORY),
    ]


@check
def directory_opened_for_write(bench: Bench) -> Any:
    return opens(bench.root, WR)


@check
def reading_what_was_opened_for_write(bench: Bench) -> Any:
    with opened(bench.plain, WR) as descriptor:
        return [outcome(os.read, descriptor, 10), outcome(os.pread, descriptor, 10, 0)]


@check
def writing_what_was_opened_for_read(bench: Bench) -> Any:
    with opened(bench.staged, RD) as descriptor:
        return outcome(os.write, descriptor, b"A\n")


@check
def writing_to_counters(bench: Bench) -> Any:
    results = []
    for name in ("violations", "runtime_measurements_count"):
        with opened(bench.root / name, WR) as descriptor:
            results.append(outcome(os.write, descriptor, b"1\n"))
    return results


@check
def opening_a_hundred_times(bench: Bench) -> Any:
    """No lock is left over."""
    results = {(opens(bench.plain, RD), opens(bench.staged, WR), opens(bench.plain, RW)) for _ in range(100)}
    return sorted(results)
