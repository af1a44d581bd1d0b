"""Measure what a drain takes: records a second beside a copy of the same bytes with fsync, memory, and later runs.

    bench/custody.py [RECORDS] [--each N]

Each run is a process of its own. The source is files that stage and delete like the kernel, with registers that can be
read; then a mounted engine that goes on from a list of as many records, without registers. Memory is the largest
resident size less that of a run that finds nothing. The service's memory is that of one process that keeps the same
records N at a time. Ends with status 1 over a limit.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from lists import write_list

from imarium import hashes
from imarium.chain import RegisterValues
from imarium.custody import Keeper, Store
from imarium.formats.kexec import KEXEC_HEADER_SIZE, KexecHeader
from imarium.formats.records import ListLayout, Record, encode_record, read_records
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.securityfs import DeleteRefused, ImaDirectory

BLOCK = 1 << 18
MEMORY_LIMIT = 0.25
"""Most memory that a first drain may take, in parts of the list's size, for a list of 500,000 records."""
TIME_LIMIT = 0.1
"""Most processor time that a later run with nothing new may take, in parts of the first drain's."""
GROWTH_LIMIT = 4 << 20
"""Most memory that a service may take more after all of its drains than after half of them, in bytes."""


class Files:
    """A kernel whose lists are two files."""

    has_staging = True

    def __init__(self, directory: Path) -> None:
        self._current = directory / "current"
        self._staged = directory / "staged"

    def can_delete(self) -> bool:
        return True

    def staged(self) -> Iterator[bytes]:
        return _blocks(self._staged)

    def current(self) -> Iterator[bytes]:
        return _blocks(self._current)

    def delete(self, records: int) -> None:
        raise DeleteRefused(f"not {records}")

    def count(self) -> int:
        return 0

    def stage(self) -> None:
        self._current.rename(self._staged)

    def delete_staged(self) -> None:
        self._staged.unlink()

    @contextmanager
    def hold(self) -> Iterator["Files"]:
        yield self

    @contextmanager
    def snapshot(self) -> Iterator["Files"]:
        yield self


def _blocks(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def drain(directory: Path, store: Path, values: dict[str, str]) -> None:
    """One run of custody in this process; prints its result, seconds, seconds of the processor, and peak in bytes."""

    def registers(_wanted: Collection[PcrIndex]) -> RegisterValues:
        return {IMA_PCR: {hashes.by_name(bank): bytes.fromhex(value) for bank, value in values.items()}}

    keeper = Keeper(Store(store, create=True), Files(directory), boot_id="boot", registers=registers)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = keeper.once()
    taken, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    print(json.dumps([result.verdict, result.freed_records, taken, cpu, peak()]))


def drain_mounted(mount: Path, store: Path) -> None:
    """One run of custody over a mounted engine in this process; prints as :func:`drain`."""
    keeper = Keeper(Store(store, create=True), ImaDirectory(mount), boot_id="engine")
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = keeper.once("prompt")
    taken, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    print(json.dumps([result.verdict, result.freed_records, taken, cpu, peak()]))


@contextmanager
def engine(directory: Path, records: int) -> Iterator[Path]:
    """A mounted engine that goes on from the list in ``directory``; where it is mounted."""
    whole, buffer, mount = directory / "whole", directory / "buffer", directory / "mounted"
    mount.mkdir()
    with buffer.open("wb") as file:
        file.write(KexecHeader(whole.stat().st_size + KEXEC_HEADER_SIZE, records).encode())
        file.writelines(_blocks(whole))
    command = [sys.executable, "-m", "imarium", "engine", "--rot", "none", "--policy", "critical_data"]
    places = ["--mount", str(mount), "--restore", str(buffer), "--state", str(directory / "engine")]
    running = subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (mount / "runtime_measurements_count").exists():
            assert running.poll() is None, "the engine did not start"
            time.sleep(0.1)
        yield mount
    finally:
        running.terminate()
        running.wait(60)


def serve(whole: Path, store: Path, each: int) -> None:
    """Keep the records of ``whole`` in one process, ``each`` at a time; prints the peak after each drain."""
    source = store.parent / "served"
    source.mkdir()
    keeper = Keeper(Store(store, create=True), Files(source), boot_id="boot")
    peaks: list[int] = []
    records = read_records(_blocks(whole), ListLayout())
    while _write(source / "current", records, each) == each:
        assert keeper.once().freed_records == each
        peaks.append(peak())
    print(json.dumps(peaks))


def _write(path: Path, records: Iterator[Record], most: int) -> int:
    """Write the next records, ``most`` at most, one by one: how many there were."""
    count = 0
    with path.open("wb") as file:
        for record in islice(records, most):
            file.write(encode_record(record))
            count += 1
    return count


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(*arguments: str) -> list[Any]:
    """What a process of its own printed."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True)
    return list(json.loads(done.stdout))


def measure(directory: Path, store: str, values: dict[str, bytes]) -> tuple[int, float, float, int]:
    """A run in a process of its own: records freed, seconds, processor time, peak."""
    texts = json.dumps({bank: value.hex() for bank, value in values.items()})
    verdict, freed, taken, cpu, most = child("drain", str(directory), str(directory / store), texts)
    assert verdict == "proven" or not freed
    return freed, taken, cpu, most


def copy(source: Path, target: Path) -> float:
    """Seconds for the same bytes, written to another file and synced."""
    begun = time.perf_counter()
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, BLOCK)
        written.flush()
        os.fsync(written.fileno())
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=50_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imarium-bench-") as name:
        directory = Path(name)
        *_, idle = measure(directory, "empty", {})
        values = write_list(directory / "current", wanted.records)
        size = (directory / "current").stat().st_size
        copied = copy(directory / "current", directory / "whole")
        freed, taken, first, most = measure(directory, "store", values)
        assert freed == wanted.records
        _, _, later, later_most = measure(directory, "store", values)
        with engine(directory, wanted.records) as mount:
            verdict, engines, slow, _, engine_most = child("mounted", str(mount), str(directory / "of-engine"))
        assert verdict == "unproven" and engines >= wanted.records
        peaks = child("serve", str(directory / "whole"), str(directory / "service"), str(wanted.each))
    memory, effort, growth = (most - idle) / size, later / first, peaks[-1] - peaks[len(peaks) // 2]
    mib = 2**20
    print(f"{wanted.records:,} records, {size / mib:.1f} MiB; a run that finds nothing takes {idle / mib:.1f} MiB")
    print(f"copy, synced {copied:6.2f} s {wanted.records / copied:12,.0f} records/s {size / mib / copied:8.1f} MiB/s")
    print(f"first drain  {taken:6.2f} s {wanted.records / taken:12,.0f} records/s {size / mib / taken:8.1f} MiB/s")
    print(f"             {first:6.2f} s of a processor, {most / mib:.1f} MiB peak: {memory:.3f} of the list's size")
    print(
        f"from engine  {slow:6.2f} s {engines / slow:12,.0f} records/s {size / mib / slow:8.1f} MiB/s, "
        f"{engine_most / mib:.1f} MiB peak"
    )
    print(f"later run    {later:6.2f} s of a processor, {later_most / mib:.1f} MiB peak: {effort:.3f} of the first's")
    print(
        f"service      {len(peaks)} drains of {wanted.each:,}: {peaks[0] / mib:.1f} MiB peak after the first, "
        f"{peaks[len(peaks) // 2] / mib:.1f} MiB after half, {peaks[-1] / mib:.1f} MiB after all"
    )
    if memory > MEMORY_LIMIT or effort > TIME_LIMIT or growth > GROWTH_LIMIT:
        sys.exit(
            f"over the limits: {MEMORY_LIMIT} of the list's size, {TIME_LIMIT} of the first drain's time, "
            f"{GROWTH_LIMIT / mib:.0f} MiB more in the second half of the drains"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["drain"]:
        drain(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
    elif sys.argv[1:2] == ["mounted"]:
        drain_mounted(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
