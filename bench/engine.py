"""Measure the engine: staging against the list's length, records a second, and memory over a long run.

    bench/engine.py [RECORDS]

RECORDS is the length of the long lists, 10,000,000 unless told. Each part is a process of its own. Ends with status 1
where staging a long list takes much longer than a short one, or where memory is not flat with flushing.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from imarium.engine import Engine, Measurement, MeasurementQueue, builtin_policy
from imarium.formats import IMA_PCR, template
from imarium.rot import RootOfTrust, open_root
from imarium.rot.swtpm import OwnSwtpm

LONG = 10_000_000
SHORT = 1_000
STAGE_EVERY = 100_000
FLAT = 32 << 20
"""Most that memory may grow in the second half of a long run with flushing, in bytes."""
SLOWEST_STAGING = 0.001
"""Longest that staging may take, in seconds, whatever the length."""

_TEMPLATE = template(b"ima-ng")
_DIGEST = (40).to_bytes(4, "little") + b"sha256:\0"
_NAME = (48).to_bytes(4, "little") + b"/usr/lib/modules/package/library-%011d.so\0"


def made(number: int) -> Measurement:
    """A record as a busy machine has it."""
    assert _TEMPLATE is not None
    return Measurement(IMA_PCR, _TEMPLATE, _DIGEST + number.to_bytes(32, "big") + _NAME % number)


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def resident() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def staging(records: int) -> dict[str, float]:
    """Seconds that staging and deleting take, the median of some; and of a measurement while the staged are read."""
    stage, delete, waits = [], [], [0.0]
    for turn in range(25 if records <= SHORT else 1):
        queue = MeasurementQueue()
        queue.restore(map(made, range(turn * records, (turn + 1) * records)))
        stage.append(timed(queue.stage_all))
        if turn == 0:
            waits = list(while_read(queue))
        delete.append(timed(queue.delete_staged))
    return {"stage": statistics.median(stage), "delete": statistics.median(delete), "wait": max(waits)}


def while_read(queue: MeasurementQueue) -> Iterator[float]:
    """How long each measurement takes while a reader goes through the staged records, a block at a time."""
    done = threading.Event()

    def read() -> None:
        with queue.lock:
            staged = queue.staged
        for first in range(staged.first, min(staged.end, staged.first + 200_000), 128):
            with queue.lock:
                for number in range(first, min(first + 128, staged.end)):
                    _ = staged[number].data
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    number = 1 << 32
    while not done.is_set() or number == 1 << 32:
        yield timed(partial(queue.add, made(number)))
        number += 1
    reader.join()


def throughput(kind: str) -> dict[str, float]:
    """Records a second through the whole engine, with critical data of no size to speak of."""
    count = 50_000 if kind == "none" else 5_000
    with tempfile.TemporaryDirectory(prefix="imarium-bench-") as name:
        place, swtpm = Path(name), OwnSwtpm(Path(name) / "swtpm")
        roots: list[RootOfTrust] = []
        if kind == "swtpm":
            roots = [open_root(f"tpm:{swtpm.start()}")]
        elif kind == "software":
            roots = [open_root("software:")]
        try:
            with Engine(place / "engine", roots=roots, policy=builtin_policy(["critical_data"])) as engine:
                taken = timed(lambda: [measure(engine, number) for number in range(count)])
                assert engine.queue.counts.full >= count
                assert not any(register.waiting for register in engine.status().registers)
                banks = sum(len(root.banks()) for root in roots)
        finally:
            for root in roots:
                root.close()
            swtpm.stop()
    return {"rate": count / taken, "banks": banks}


def measure(engine: Engine, number: int) -> bool:
    return engine.measure_critical_data(b"bench", b"record-%d" % number, b"data")


def long_run(records: int, *, flush: bool) -> dict[str, float]:
    """Memory over a run with staging and deletion every so often."""
    queue = MeasurementQueue(flush_htable=flush)
    begun, start, half = time.perf_counter(), 0, 0
    for number in range(records):
        queue.add(made(number))
        if number % STAGE_EVERY == STAGE_EVERY - 1:
            queue.stage_all()
            queue.delete_staged()
            start = start or resident()
            if number < records // 2:
                half = resident()
    end = resident()
    assert queue.counts.full == records
    seconds = time.perf_counter() - begun
    return {"growth": end - start, "later": end - half, "records": records - STAGE_EVERY, "rate": records / seconds}


PARTS: dict[str, Callable[[int], dict[str, float]]] = {
    "staging-short": lambda _: staging(SHORT),
    "staging-long": staging,
    "throughput-none": lambda _: throughput("none"),
    "throughput-software": lambda _: throughput("software"),
    "throughput-swtpm": lambda _: throughput("swtpm"),
    "flushing": lambda records: long_run(records, flush=True),
    "keeping": lambda records: long_run(records, flush=False),
}


def begin(name: str, records: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, name, str(records)], stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> dict[str, float]:
    output, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, float] = json.loads(output)
    return found


def part(name: str, records: int) -> dict[str, float]:
    return finish(begin(name, records))


def main(records: int) -> None:
    failed = []
    short, long = part("staging-short", records), part("staging-long", records)
    for count, found in ((SHORT, short), (records, long)):
        print(
            f"staging {count:>10,} records takes {found['stage'] * 1e6:6.1f} us, deleting them "
            f"{found['delete'] * 1e3:7.2f} ms; a measurement while they are read {found['wait'] * 1e3:6.2f} ms at most",
            flush=True,
        )
    if long["stage"] > SLOWEST_STAGING:
        failed.append("staging time depends on the length")
    for kind, label in (("none", "no root of trust"), ("software", "the software root"), ("swtpm", "swtpm")):
        found = part(f"throughput-{kind}", records)
        print(f"measuring with {label:17} {found['rate']:10,.0f} records/s ({found['banks']} banks)", flush=True)
    runs = [(begin(name, records), label) for name, label in (("flushing", "with"), ("keeping", "without"))]
    for process, label in runs:
        found = finish(process)
        per_record = found["growth"] / found["records"]
        print(
            f"{records:,} records, staged every {STAGE_EVERY:,}, {label} flushing: memory grew "
            f"{found['growth'] / 2**20:6.1f} MiB, {per_record:5.2f} bytes a record; {found['rate']:,.0f} records/s",
            flush=True,
        )
        if label == "with" and found["later"] > FLAT:
            failed.append("memory is not flat with flushing")
    if failed:
        sys.exit(f"over the limits: {'; '.join(failed)}")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else LONG)
