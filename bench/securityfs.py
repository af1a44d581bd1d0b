#!/usr/bin/env python3
"""How long it takes to read an engine's lists through its mount: whole, with cat, and at a far place.

Prints one JSON document. ``bench/securityfs.py [RECORDS ...]``; 100,000 and 1,000,000 records unless told.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imarium.engine import Event, Measurement, MeasurementQueue, PolicyFile, event_data, find_template
from imarium.formats import IMA_PCR
from imarium.fuse import mounted
from imarium.hashes import SHA1, SHA256
from imarium.securityfs.tree import ImaTree

LISTS = ("binary_runtime_measurements_sha1", "binary_runtime_measurements_sha256", "ascii_runtime_measurements_sha256")
RECORDS = (100_000, 1_000_000)


def filled(records: int) -> MeasurementQueue:
    """A queue with as many synthetic records."""
    queue, template = MeasurementQueue(), find_template("ima-sig")
    for number in range(records):
        event = Event(b"/usr/bin/program-%d" % number, SHA256, number.to_bytes(SHA256.size, "big"))
        queue.add(
            Measurement(IMA_PCR, template, event_data(template, event, queue.byte_order), False, queue.byte_order)
        )
    return queue


def timed(path: Path) -> dict[str, float]:
    """Read a file with cat, then 100 bytes from its middle in a newly opened one."""
    began = time.perf_counter()
    whole = subprocess.run(["sh", "-c", 'cat "$1" | wc -c', "sh", str(path)], capture_output=True, check=True)
    cat = time.perf_counter() - began
    size = int(whole.stdout)
    descriptor = os.open(path, os.O_RDONLY)
    began = time.perf_counter()
    os.pread(descriptor, 100, size // 2)
    far = time.perf_counter() - began
    began = time.perf_counter()
    os.pread(descriptor, 100, size // 4)
    back = time.perf_counter() - began
    os.close(descriptor)
    return {"bytes": size, "cat_s": round(cat, 3), "far_s": round(far, 4), "back_s": round(back, 4)}


def main() -> None:
    """All lists, of each length."""
    results = {}
    for records in map(int, sys.argv[1:] or RECORDS):
        with tempfile.TemporaryDirectory(prefix="imarium-bench-") as directory:
            place = Path(directory)
            with mounted(ImaTree(filled(records), [SHA1, SHA256], PolicyFile()), place, fsname="imarium-bench"):
                results[records] = {name: timed(place / name) for name in LISTS}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
