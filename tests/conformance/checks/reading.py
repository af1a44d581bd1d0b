"""Reading: how much a read gives, what a reader sees of what is measured meanwhile, and what else asks for bytes."""

import ctypes
import mmap
import os
import select
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, attempt, checked, command, drain, libc, opened, outcome, read
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

FORMS = ("ascii", "binary")


def _sizes(path: Any, size: int) -> list[int]:
    sizes = []
    with opened(path, RD) as descriptor:
        while part := os.read(descriptor, size):
            sizes.append(len(part))
    return sizes


@check
def reading_in_parts_of_any_size(bench: Bench) -> Any:
    bench.measure(5)
    same = {}
    for form in FORMS:
        whole = read(bench.file(form))
        for size in (1, 7, 100, 1000):
            with opened(bench.file(form), RD) as descriptor:
                same[f"{form} {size}"] = drain(descriptor, size) == whole
    return same


@check
def how_much_small_reads_give(bench: Bench) -> Any:
    bench.measure(5)
    return {form: _sizes(bench.file(form), 100) for form in FORMS}


@check
def how_much_large_reads_give(bench: Bench) -> Any:
    """More than a page of records."""
    bench.measure(80)
    return {form: [_sizes(bench.file(form), size) for size in (1 << 17, 8192, 5000, 4096, 3000)] for form in FORMS}


@check
def how_much_reads_give_of_a_long_record(bench: Bench) -> Any:
    """One that is longer than a page."""
    bench.measure(1)
    long = _long(bench)
    bench.measure_file(long)
    bench.measure(2)
    found = {form: [_sizes(bench.file(form), size) for size in (1 << 17, 4096, 100)] for form in FORMS}
    return {form: [[len(sizes), sum(sizes), sizes[:3]] for sizes in rows] for form, rows in found.items()}


def _long(bench: Bench) -> Any:
    """A file with a path of almost the longest length there is."""
    place = bench.make("long").parent / f"{bench.name[:10]}-long"
    while len(str(place)) < 3700:
        place /= "d" * 200
    place.mkdir(parents=True, exist_ok=True)
    path = place / ("f" * (4085 - len(str(place))))
    path.write_bytes(b"long")
    return path


@check
def reading_an_empty_list(bench: Bench) -> Any:
    return {form: [read(bench.file(form)).hex(), read(bench.file(form, staged=True)).hex()] for form in FORMS}


@check
def reading_nothing(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.plain, RD) as descriptor:
        return [len(os.read(descriptor, 0)), len(os.read(descriptor, 10))]


@check
def measured_between_open_and_read(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.file("ascii"), RD) as descriptor:
        bench.measure(2)
        return drain(descriptor).count(b"\n")


@check
def measured_at_the_end_of_a_read(bench: Bench) -> Any:
    """Like ``tail -f``: what a reader that was told of the end gets afterwards."""
    bench.measure(2)
    seen = []
    with opened(bench.file("ascii"), RD) as descriptor:
        seen.append(drain(descriptor).count(b"\n"))
        for _ in range(2):
            bench.measure(1)
            seen.append(drain(descriptor).count(b"\n"))
    return seen


@check
def measured_in_the_middle_of_a_read(bench: Bench) -> Any:
    bench.measure(2)
    with opened(bench.plain, RD) as descriptor:
        start = os.read(descriptor, 10)
        bench.measure(1)
        rest = drain(descriptor)
    return start + rest == read(bench.plain)


@check
def measured_within_a_page_that_was_read(bench: Bench) -> Any:
    """How much a large read gives in the first place, and after a record came."""
    bench.measure(2)
    with opened(bench.plain, RD) as descriptor:
        first = len(os.read(descriptor, 100))
        bench.measure(1)
        return [first, len(os.read(descriptor, 4096)), len(os.read(descriptor, 4096)), len(os.read(descriptor, 4096))]


@check
def measured_and_read_again_from_the_start(bench: Bench) -> Any:
    bench.measure(1)
    with opened(bench.file("ascii"), RD) as descriptor:
        first = drain(descriptor).count(b"\n")
        bench.measure(1)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [first, drain(descriptor).count(b"\n")]


@check
def staged_and_read_through_one_descriptor(bench: Bench) -> Any:
    bench.measure(3)
    with opened(bench.staged, RW) as descriptor:
        seen = [len(drain(descriptor))]
        os.write(descriptor, b"A\n")
        os.lseek(descriptor, 0, os.SEEK_SET)
        seen.append(len(drain(descriptor)))
        os.write(descriptor, b"D\n")
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [*seen, len(drain(descriptor))]


@check
def deleted_and_read_through_one_descriptor(bench: Bench) -> Any:
    bench.measure(3)
    with opened(bench.plain, RW) as descriptor:
        whole = drain(descriptor)
        deleted = outcome(os.write, descriptor, b"1\n")
        os.lseek(descriptor, 0, os.SEEK_SET)
        rest = drain(descriptor)
    return [deleted, len(whole), len(rest), whole.endswith(rest)]


@check
def staged_while_the_current_list_is_open(bench: Bench) -> Any:
    """By the one task that may: one descriptor of each, to see one state."""
    bench.measure(3)
    with opened(bench.staged, RW) as staged, opened(bench.plain, RW) as current:
        seen = [len(drain(staged)), len(drain(current))]
        os.write(staged, b"A\n")
        bench.measure(1)
        for descriptor in (staged, current):
            os.lseek(descriptor, 0, os.SEEK_SET)
            seen.append(len(drain(descriptor)))
    return seen


@check
def reading_positions_apart(bench: Bench) -> Any:
    """pread(2) forwards, backwards, at the end and beyond it."""
    bench.measure(4)
    whole = read(bench.plain)
    places = (0, 100, 1, len(whole) - 1, len(whole), len(whole) + 1, 1 << 20, 50)
    with opened(bench.plain, RD) as descriptor:
        parts = [os.pread(descriptor, 60, place) for place in places]
    return [[len(part), part == whole[place : place + 60]] for place, part in zip(places, parts, strict=True)]


@check
def positions_apart_do_not_move(bench: Bench) -> Any:
    bench.measure(4)
    whole = read(bench.plain)
    with opened(bench.plain, RD) as descriptor:
        start = os.read(descriptor, 10)
        os.pread(descriptor, 100, 200)
        return [start + os.read(descriptor, 10) == whole[:20], os.lseek(descriptor, 0, os.SEEK_CUR)]


@check
def positions_apart_below_zero(bench: Bench) -> Any:
    with opened(bench.plain, RD) as descriptor:
        return outcome(os.pread, descriptor, 10, -1)


@check
def reading_into_several_buffers(bench: Bench) -> Any:
    bench.measure(3)
    buffers = [bytearray(30), bytearray(0), bytearray(70)]
    with opened(bench.plain, RD) as descriptor:
        taken = os.readv(descriptor, buffers)
    return [taken, b"".join(buffers) == read(bench.plain)[:100]]


@check
def waiting_for_a_file(bench: Bench) -> Any:
    """poll(2) says that everything can be done at once."""
    masks = []
    for path, mode in ((bench.plain, RD), (bench.staged, WR), (bench.root / "violations", RD)):
        with opened(path, mode) as descriptor:
            poll = select.poll()
            poll.register(descriptor, 0x7FFF)
            masks.append(poll.poll(0)[0][1])
    return masks


@check
def mapping_a_file(bench: Bench) -> Any:
    """Shared: no file of the interface can be mapped."""
    bench.measure(1)
    with opened(bench.plain, RW) as descriptor:
        kinds = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
        return [outcome(map_file, descriptor, kind, mmap.MAP_SHARED) for kind in kinds]


def map_file(descriptor: int, protection: int, flags: int) -> None:
    """Map a page and let it go. Raises OSError."""
    library = libc()
    library.mmap.restype = ctypes.c_ssize_t
    address = checked(library.mmap(None, ctypes.c_size_t(4096), protection, flags, descriptor, ctypes.c_long(0)))
    checked(library.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096)))


@check
def syncing_and_reserving(bench: Bench) -> Any:
    results = []
    for path in (bench.plain, bench.root / "violations"):
        with opened(path, WR) as descriptor:
            results += [outcome(os.fsync, descriptor), outcome(os.fdatasync, descriptor)]
            results.append(
                outcome(lambda fd=descriptor: checked(libc().fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(9))))
            )
    return results


@check
def the_counters_text(bench: Bench) -> Any:
    seen = [read(bench.root / "runtime_measurements_count").decode()]
    for count in (1, 9, 1):
        bench.measure(count)
        seen.append(read(bench.root / "runtime_measurements_count").decode())
    return seen


@check
def a_counter_read_in_parts(bench: Bench) -> Any:
    """And whether an open counter goes on counting."""
    bench.measure(12)
    with opened(bench.root / "runtime_measurements_count", RD) as descriptor:
        parts = [os.read(descriptor, 1).decode(), os.read(descriptor, 10).decode(), os.read(descriptor, 10).decode()]
        bench.measure(1)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [*parts, os.read(descriptor, 10).decode(), os.pread(descriptor, 10, 1).decode()]


@check
def a_counter_that_counts_between_parts(bench: Bench) -> Any:
    bench.measure(9)
    with opened(bench.root / "runtime_measurements_count", RD) as descriptor:
        first = os.read(descriptor, 1).decode()
        bench.measure(1)
        return [first, os.read(descriptor, 10).decode()]


@check
def a_list_read_while_it_is_deleted_by_its_reader(bench: Bench) -> Any:
    """Sequential reading through the writer's own descriptor while records go away below it."""
    bench.measure(6)
    with opened(bench.file("ascii"), RW) as descriptor:
        first = os.read(descriptor, 10)
        deleted = outcome(os.write, descriptor, b"2\n")
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [len(first), deleted, drain(descriptor).count(b"\n")]


@check
def after_a_failed_command_reading_goes_on(bench: Bench) -> Any:
    bench.measure(2)
    whole = read(bench.plain)
    with opened(bench.plain, RW) as descriptor:
        start = os.read(descriptor, 20)
        failed = attempt(os.write, descriptor, b"x\n")
        return [failed, start + drain(descriptor) == whole]


@check
def both_lists_through_commands(bench: Bench) -> Any:
    """What was current is what is staged, and what came later is current."""
    bench.measure(2)
    before = read(bench.plain)
    command(bench.staged, b"A\n")
    bench.measure(1)
    return [read(bench.staged) == before, len(read(bench.plain)), outcome(command, bench.plain, b"2\n", WR)]
