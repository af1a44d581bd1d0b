"""Where a file system in user space cannot be what the kernel's own is. Each of these has two right answers.

They are no part of the suite's count. The test knows both answers and why they differ.
"""

import mmap
import os
import select
import subprocess
import sys
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, command, opened, opens, outcome, read
from tests.conformance.checks.reading import map_file
from tests.conformance.checks.texts import write_unreadable
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS


@check
def limit_writing_nothing(bench: Bench) -> Any:
    """A write of no bytes."""
    return [attempt(command, path, b"") for path in (bench.staged, bench.plain)]


@check
def limit_unreadable_text_of_a_wrong_length(bench: Bench) -> Any:
    return [outcome(write_unreadable, bench.staged, size) for size in (1, 22)]


@check
def limit_writing_apart_from_the_position(bench: Bench) -> Any:
    """pwrite(2)."""
    bench.measure(2)
    with opened(bench.staged, WR) as descriptor:
        return outcome(os.pwrite, descriptor, b"A\n", 0)


@check
def limit_position_after_a_command(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.staged, RW) as descriptor:
        os.write(descriptor, b"A\n")
        return os.lseek(descriptor, 0, os.SEEK_CUR)


@check
def limit_writing_from_several_buffers(bench: Bench) -> Any:
    """writev(2)."""
    bench.measure(2)
    with opened(bench.staged, WR) as descriptor:
        return [attempt(os.writev, descriptor, [b"A", b"\n"]), (bench.root / "runtime_measurements_count").read_text()]


@check
def limit_sendfile(bench: Bench) -> Any:
    """What sendfile(2) gives of a list that has something."""
    bench.measure(2)
    with open("/run/imarium-conformance/copy", "wb") as copy, opened(bench.plain, RD) as descriptor:
        given = attempt(os.sendfile, copy.fileno(), descriptor, 0, 1 << 20)
    return {0: "nothing", len(read(bench.plain)): "everything"}.get(given, given)


@check
def limit_copying_with_shutil(bench: Bench) -> Any:
    """Python's shutil.copyfile() takes sendfile(2) where that does not fail."""
    bench.measure(2)
    script = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    copy = "/run/imarium-conformance/copy"
    subprocess.run([sys.executable, "-I", "-S", "-c", script, str(bench.plain), copy], check=True)
    with open(copy, "rb") as file:
        return file.read() == read(bench.plain)


@check
def limit_mapping_for_oneself(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.plain, RD) as descriptor:
        return outcome(map_file, descriptor, mmap.PROT_READ, mmap.MAP_PRIVATE)


@check
def limit_direct_access(bench: Bench) -> Any:
    return opens(bench.plain, RD | os.O_DIRECT)


@check
def limit_epoll(bench: Bench) -> Any:
    with opened(bench.plain, RD) as descriptor, select.epoll() as epoll:
        return outcome(epoll.register, descriptor)


@check
def limit_size_after_truncation(bench: Bench) -> Any:
    """Undone at once."""
    os.truncate(bench.plain, 5)
    size = os.stat(bench.plain).st_size
    os.truncate(bench.plain, 0)
    return size


@check
def limit_reading_after_a_seek_beyond_the_end(bench: Bench) -> Any:
    """And after a record came: how much is read at a place that is still beyond the end."""
    bench.measure(1)
    with opened(bench.plain, RD) as descriptor:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        bench.measure(1)
        return len(os.read(descriptor, 4096))


@check
def limit_policy_rule_without_newline(bench: Bench) -> Any:
    """How many bytes more than it was given write(2) says it took."""
    rule = b"measure func=FILE_CHECK mask=MAY_READ fowner=77777"
    with opened(bench.root / "policy", WR) as descriptor:
        return os.write(descriptor, rule) - len(rule)


@check
def limit_policy_at_the_end_of_what_was_written(bench: Bench) -> Any:
    rule = b"measure func=FILE_CHECK mask=MAY_READ fowner=77778\n"
    with opened(bench.root / "policy", WR) as descriptor:
        return [outcome(os.pwrite, descriptor, rule, place) for place in (0, len(rule))]


@check
def limit_kind_of_file_system(bench: Bench) -> Any:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(bench.root)], capture_output=True, text=True, check=True)
    return done.stdout.strip()
