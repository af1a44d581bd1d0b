"""Time ``imarium replay`` beside ``evmctl ima_measurement`` on one list, as whole processes, in the same run.

    bench/replay.py [RECORDS [ROUNDS]]

Both replay the list in the SHA-1 and the SHA-256 bank and match given PCR values. They take turns, so that a machine
that slows down slows both. Printed are medians and the median of the ratios.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lists import write_list

IMARIUM = Path(sys.executable).with_name("imarium")


@dataclass(frozen=True, slots=True)
class Run:
    """One finished process: its wall and processor time in seconds and its largest resident size in bytes."""

    wall: float
    cpu: float
    peak: int


def run(command: list[str]) -> Run:
    """Run a command to its end, with its output thrown away. Exits if it fails."""
    begun = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        complaint = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed with {process.returncode}: {complaint.decode(errors='replace')}")
    return Run(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def write_pcrs(directory: Path, values: dict[str, bytes]) -> list[str]:
    """Files of PCR values as evmctl reads them; the options that name them."""
    options = []
    for bank, value in values.items():
        path = directory / f"pcrs-{bank}"
        size = len(value)
        path.write_text(
            "".join(
                f"PCR-{n:02}: {' '.join(f'{b:02X}' for b in (value if n == 10 else bytes(size)))}\n" for n in range(24)
            )
        )
        options += ["--pcrs", f"{bank},{path}"]
    return options


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    evmctl = shutil.which("evmctl")
    if evmctl is None:
        sys.exit("evmctl not found: apt-get install ima-evm-utils")
    with tempfile.TemporaryDirectory(prefix="imarium-bench-") as name:
        directory = Path(name)
        path = directory / "binary_runtime_measurements"
        print(f"writing a list of {records:,} ima-ng records", file=sys.stderr)
        values = write_list(path, records)
        ours = [str(IMARIUM), "replay", str(path), "--json"]
        for bank, value in values.items():
            ours += ["--pcr", f"10:{bank}={value.hex()}"]
        theirs = [evmctl, "ima_measurement", *write_pcrs(directory, values), str(path)]
        found = json.loads(subprocess.run(ours, check=True, capture_output=True).stdout)
        assert found["records"] == records
        assert found["match"] == {"10": dict.fromkeys(values, records)}
        pairs = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            pairs.append((run(ours), run(theirs)))
        size = path.stat().st_size
    print(f"{records:,} records, {size:,} bytes, banks sha1 and sha256, {rounds} rounds, whole processes")
    for label, side in (("imarium replay", 0), ("evmctl ima_measurement", 1)):
        wall = statistics.median(pair[side].wall for pair in pairs)
        cpu = statistics.median(pair[side].cpu for pair in pairs)
        peak = max(pair[side].peak for pair in pairs)
        print(
            f"{label:24}{records / wall:>12,.0f} records/s {wall:7.2f} s wall {cpu:7.2f} s cpu "
            f"{peak / 2**20:8.1f} MiB peak"
        )
    ratios = [theirs.wall / ours.wall for ours, theirs in pairs]
    print(
        f"imarium is {statistics.median(ratios):.2f} times as fast as evmctl ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
