"""A kernel whose lists are files, for tests with several processes; and what some of these processes do.

    file_kernel.py mount KERNEL STORE DIR    serve the whole list at DIR
    file_kernel.py watch FILE STOP           read FILE again and again until STOP is there, then say what was seen;
                                             a line says that it has begun

Lists are directories with a file for each batch of records, which appears whole. Locking is the kernel's: any number of
readers or one writer.
"""

import errno
import fcntl
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imarium.custody import View
from imarium.custody.tree import ListTree
from imarium.formats.records import ListLayout, read_records
from imarium.fuse import mount
from imarium.hashes import SHA1, SHA256, SHA512
from imarium.securityfs import ListBusy

__all__ = ["BOOT", "FileKernel", "seen_names"]

BOOT = "file-kernel"
_PATIENCE = 60.0


class FileKernel:
    """One kernel's lists in a directory, shared by processes."""

    has_staging = True

    def __init__(self, path: Path) -> None:
        self._current, self._staged, self._lock = path / "current", path / "staged", path / "lock"
        self._current.mkdir(parents=True, exist_ok=True)

    def measure(self, data: bytes) -> None:
        """Append records. For one process at a time, which is also the one that stages."""
        beside = self._current.with_name("new")
        beside.write_bytes(data)
        beside.rename(self._current / f"{time.monotonic_ns():020}")

    def can_delete(self) -> bool:
        return True

    def count(self) -> int:
        return sum(1 for _ in read_records(self.current(), ListLayout()))

    def staged(self) -> Iterator[bytes]:
        return _blocks(self._staged)

    def current(self) -> Iterator[bytes]:
        return _blocks(self._current)

    def stage(self) -> None:
        self._current.rename(self._staged)
        self._current.mkdir()

    def delete_staged(self) -> None:
        shutil.rmtree(self._staged)

    def delete(self, records: int) -> None:
        data = b"".join(self.current())
        ends = [record.offset + record.size for record in read_records([data], ListLayout())]
        self.stage()
        self.measure(data[ends[records - 1] :])
        self.delete_staged()

    @contextmanager
    def hold(self) -> Iterator["FileKernel"]:
        with self._locked(fcntl.LOCK_EX):
            yield self

    @contextmanager
    def snapshot(self) -> Iterator["FileKernel"]:
        with self._locked(fcntl.LOCK_SH):
            yield self

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        deadline = time.monotonic() + _PATIENCE
        with self._lock.open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                        raise ListBusy(f"{self._lock}: held") from error
                time.sleep(0.001)
            yield


def _blocks(directory: Path) -> Iterator[bytes]:
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            yield path.read_bytes()


def seen_names(data: bytes) -> list[bytes]:
    """The names in an ASCII list, in order."""
    return [line.rpartition(b" ")[2] for line in data.splitlines()]


def serve(kernel: Path, store: Path, place: Path) -> None:
    """Mount the whole list, with a line on standard error when it is there."""
    view = View(store, FileKernel(kernel), boot_id=BOOT)
    tree = ListTree(view, [SHA1, SHA256, SHA512])
    mount(tree, place, fsname="imarium-log", ready=lambda: print("mounted", file=sys.stderr, flush=True))


def watch(file: Path, stop: Path) -> None:
    """Read a list until told to stop. Each time it must be the last one, with perhaps more behind it."""
    before, reads, grown = b"", 0, 0
    while True:
        last = stop.exists()
        data = file.read_bytes()
        assert data.startswith(before), (
            f"read {reads}: {len(data)} bytes that do not begin as {len(before)} before: "
            f"{data[:200]!r}, {before[:200]!r}"
        )
        grown += len(data) > len(before)
        before, reads = data, reads + 1
        if reads == 1:
            print("reading", flush=True)
        if last:
            print(json.dumps({"reads": reads, "grown": grown, "data": before.hex()}))
            return


if __name__ == "__main__":
    if sys.argv[1] == "mount":
        serve(*map(Path, sys.argv[2:5]))
    else:
        watch(*map(Path, sys.argv[2:4]))
