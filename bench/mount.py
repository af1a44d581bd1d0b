"""Read a large list through the mount: bytes a second in each form beside ``cat`` of the store's file, and memory.

    bench/mount.py [RECORDS]

Each form is read twice, the second time from its middle on: that is found by the places noted the first time. Ends with
status 1 if the mount took more memory than the limit, or was slow to find the middle.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lists import write_list

IMARIUM = Path(sys.executable).with_name("imarium")
MEMORY_LIMIT = 64 << 20
"""Most bytes by which the mounting process may grow while it is read."""
SEEK_LIMIT = 1.0
"""Most seconds to the first byte from the middle."""
FORMS = ("binary_runtime_measurements", "binary_runtime_measurements_sha256", "ascii_runtime_measurements")
BLOCK = 1 << 20


def resident(pid: int) -> int:
    """The largest size that a process had in memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def read(path: Path, offset: int = 0) -> tuple[int, float, float]:
    """Read a file from an offset to its end; how many bytes, the seconds to the first, and those to the last."""
    begun = time.monotonic()
    size, first = 0, 0.0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while block := file.read(BLOCK):
            first = first or time.monotonic() - begun
            size += len(block)
    return size, first, time.monotonic() - begun


@contextmanager
def mounted(place: Path, source: Path, store: Path) -> Iterator[int]:
    """``imarium log mount``; its process."""
    command = [str(IMARIUM), "log", "mount", str(place), "--source", str(source), "--store", str(store)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            if not said.startswith("mounted"):
                sys.exit(said + process.stderr.read())
            yield process.pid
        finally:
            process.terminate()


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        source, root = place / "ima", place / "mount"
        for made in (source, root):
            made.mkdir()
        write_list(source / "binary_runtime_measurements", records)
        subprocess.run(
            [IMARIUM, "keep", "--once", "--source", source, "--store", place / "store"], check=True, stdout=-3
        )
        size, _, seconds = read(place / "store/logs/0000/list")
        print(f"{records:,} records; the store's own file: {size / seconds / 1e6:.0f} MB/s")
        good = True
        with mounted(root, source, place / "store") as pid:
            (root / "runtime_measurements_count").read_bytes()
            before = resident(pid)
            for name in FORMS:
                size, _, seconds = read(root / name)
                _, first, _ = read(root / name, size // 2)
                good = good and first < SEEK_LIMIT
                rate = f"{size / seconds / 1e6:.1f} MB/s, {records / seconds:,.0f} records/s"
                print(f"{name:36} {rate}; first byte from the middle after {first * 1e3:.0f} ms")
            grown = resident(pid) - before
        print(f"memory: {grown / 1e6:.1f} MB more than before the first read")
        sys.exit(0 if good and grown <= MEMORY_LIMIT else 1)


if __name__ == "__main__":
    main()
