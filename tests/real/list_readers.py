"""What processes do beside a custody that drains: mount the whole list, and read it.

python -m tests.real.list_readers mount KERNEL STORE DIR    serve the whole list at DIR
python -m tests.real.list_readers watch FILE STOP           read FILE until STOP is there, then say what was seen
"""

import json
import sys
from pathlib import Path

from tests.unit.custody_files import FileKernel
from tests.waiting import PATIENCE

from imarium.custody import View
from imarium.custody.tree import ListTree
from imarium.fuse import mount
from imarium.hashes import SHA1, SHA256, SHA512

__all__ = ["BOOT", "seen_names"]

BOOT = "file-kernel"


def seen_names(data: bytes) -> list[bytes]:
    """The names in an ASCII list, in order."""
    return [line.rpartition(b" ")[2] for line in data.splitlines()]


def serve(kernel: Path, store: Path, place: Path) -> None:
    """Mount the whole list, with a line on standard error when it is there."""
    view = View(store, FileKernel(kernel, patience=PATIENCE), boot_id=BOOT)
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
