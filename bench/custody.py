"""Measure what a drain takes: memory against the list's size, and a later run's time against the first's.

    bench/custody.py [RECORDS]

Each run is a process of its own, over a source that stages and deletes like the kernel, with registers that can be
read. Memory is the largest resident size less that of a run that finds nothing. Ends with status 1 over a limit.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lists import write_list

from imarium import hashes
from imarium.chain import RegisterValues
from imarium.custody import Keeper, Store
from imarium.formats.registers import IMA_PCR, PcrIndex

BLOCK = 1 << 18
MEMORY_LIMIT = 0.25
"""Most memory that a first drain may take, in parts of the list's size, for a list of 500,000 records."""
TIME_LIMIT = 0.1
"""Most processor time that a later run with nothing new may take, in parts of the first drain's."""


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
        raise NotImplementedError(records)

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
    """One run of custody in this process; prints its result, processor time in seconds and peak in bytes."""

    def registers(_wanted: Collection[PcrIndex]) -> RegisterValues:
        return {IMA_PCR: {hashes.by_name(bank): bytes.fromhex(value) for bank, value in values.items()}}

    begun = time.process_time()
    result = Keeper(Store(store, create=True), Files(directory), boot_id="boot", registers=registers).once()
    taken = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([result.verdict, result.freed_records, taken, peak]))


def measure(directory: Path, store: str, values: dict[str, bytes]) -> tuple[int, float, int]:
    """A run in a process of its own: records freed, processor time, peak."""
    texts = json.dumps({bank: value.hex() for bank, value in values.items()})
    command = [sys.executable, __file__, "drain", str(directory), str(directory / store), texts]
    verdict, freed, taken, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert verdict == "proven" or not freed
    return freed, taken, peak


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    with tempfile.TemporaryDirectory(prefix="imarium-bench-") as name:
        directory = Path(name)
        _, _, idle = measure(directory, "empty", {})
        values = write_list(directory / "current", records)
        size = (directory / "current").stat().st_size
        freed, first, peak = measure(directory, "store", values)
        assert freed == records
        _, later, later_peak = measure(directory, "store", values)
    memory, effort = (peak - idle) / size, later / first
    print(
        f"a list of {records:,} records, {size / 2**20:.1f} MiB; a run that finds nothing takes {idle / 2**20:.1f} MiB"
    )
    print(f"first drain  {first:6.2f} s cpu  {peak / 2**20:6.1f} MiB peak: {memory:.3f} of the list's size")
    print(f"later run    {later:6.2f} s cpu  {later_peak / 2**20:6.1f} MiB peak: {effort:.3f} of the first's time")
    if memory > MEMORY_LIMIT or effort > TIME_LIMIT:
        sys.exit(f"over the limits: {MEMORY_LIMIT} of the list's size, {TIME_LIMIT} of the first drain's time")


if sys.argv[1:2] == ["drain"]:
    drain(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
else:
    main()
