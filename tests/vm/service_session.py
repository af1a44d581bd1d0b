"""The service of custody inside a guest, on a disk, with others about: results in /shared/out.json."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from imarium.custody import Schedule, Service, ServiceEvent, SourceConfig, SourceStatus, Store
from imarium.custody.machine import boot_id, machine_of, registers_of
from imarium.errors import ImariumError
from imarium.securityfs import ImaDirectory

SHARED = Path("/shared")
STORE = Path("/mnt/store")
PROGRAMS = Path("/mnt/programs")
IMA = ImaDirectory(patience=0.3)
_serial = count()


def measured(number: int) -> None:
    """Run programs that were never run before, so that each is measured."""
    PROGRAMS.mkdir(exist_ok=True)
    for _ in range(number):
        path = PROGRAMS / f"program-{next(_serial):03}"
        shutil.copy("/bin/true", path)
        with path.open("ab") as file:
            file.write(path.name.encode())
        subprocess.run([path], check=True)


def eventually(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen: {what}")
        time.sleep(0.05)


def drained(service: Service, drains: int) -> None:
    eventually(lambda: service.status().sources[0].drains >= drains, f"{drains} drains")


def settled(service: Service) -> SourceStatus:
    """Wait until nothing new comes any more, and some drains more."""
    after = service.status().sources[0]
    before = None
    while before is None or after.records != before.records or after.lag != 0:
        before, drains = after, after.drains + 3
        drained(service, drains)
        after = service.status().sources[0]
    return after


def idle(service: Service) -> dict[str, object]:
    """Twenty drains with nothing to do: what they add to the list and to the journal."""
    before = settled(service)
    journal = (STORE / "logs/0000/journal").stat().st_size
    violations, cpu, begun = IMA.violations(), time.process_time(), time.monotonic()
    drained(service, before.drains + 20)
    cpu, seconds = time.process_time() - cpu, time.monotonic() - begun
    after = service.status().sources[0]
    return {
        "added": after.records - before.records + IMA.count(),
        "journal": (STORE / "logs/0000/journal").stat().st_size - journal,
        "violations": IMA.violations() - violations,
        "state": after.state,
        "cpu_share": cpu / seconds,
    }


def reader(service: Service) -> dict[str, object]:
    """Another program keeps the list open for a while."""
    with (IMA.path / "binary_runtime_measurements").open("rb") as file:
        holder = subprocess.Popen(["sleep", "1000"], stdin=file)
    eventually(lambda: service.status().sources[0].state == "degraded", "degraded")
    status = service.status().sources[0]
    holder.kill()
    holder.wait()
    eventually(lambda: service.status().sources[0].state == "ok", "ok again")
    return {"pid": holder.pid, "reason": status.reason, "errors": dict(status.errors)}


def stage_only(service: Service) -> dict[str, object]:
    """Another stages and does not delete."""
    settled(service)
    before = service.status().sources[0]
    measured(2)
    with ImaDirectory(patience=5.0).hold() as held:
        staged = "none"
        try:
            held.stage()
        except ImariumError as error:  # the service was quicker
            staged = error.code
    result = service.request(timeout=60.0)
    return {"staged": staged, "verdict": result.verdict, "more": result.records - before.records}


def thief(events: list[ServiceEvent]) -> dict[str, object]:
    """Another deletes records by number that were not kept; a service that drains only when asked sees it."""
    service = Service([config(STORE, Schedule(3600.0, records=None, poll=0.05))], on_event=events.append)
    service.start()
    try:
        for _ in range(3):
            service.request(timeout=60.0)
        measured(4)
        eventually(lambda: service.status().sources[0].lag == IMA.count() > 3, "all seen")
        taken = IMA.count() - 1
        ImaDirectory(patience=5.0).delete(taken)
        eventually(lambda: service.status().sources[0].lag == IMA.count(), "taken")
        measured(1)
        result = service.request(timeout=60.0)
        again = service.request(timeout=60.0)
        status = service.status().sources[0]
        return {
            "taken": taken,
            "gap": result.gap.to_document() if result.gap else None,
            "verdicts": [result.verdict, again.verdict],
            "freed": result.freed_records + again.freed_records,
            "status": status.to_document(),
            "starts": [Store(STORE).log(number).meta.start for number in Store(STORE).numbers],
        }
    finally:
        service.stop()


def config(store: Path, schedule: Schedule) -> SourceConfig:
    registers, machine = registers_of(IMA.path), machine_of(IMA.path)
    return SourceConfig("kernel", IMA, store, boot_id(), registers=registers, machine=machine, schedule=schedule)


def main() -> None:
    subprocess.run(["mount", "/dev/vda", "/mnt"], check=True)
    events: list[ServiceEvent] = []
    service = Service([config(STORE, Schedule(0.3, records=50, poll=0.1))], on_event=events.append)
    service.start()
    out: dict[str, object] = {}
    try:
        for part in (idle, reader, stage_only):
            out[part.__name__] = part(service)
    finally:
        service.stop()
    log = Store(STORE).log()
    noted = log.machine_noted
    out["machine"] = noted.to_document() if noted else None
    out["log"] = {"number": log.number, "proved": list(log.proved_by), "records": log.records}
    out["theft"] = thief(events)
    out["kinds"] = sorted({event.kind for event in events})
    (SHARED / "out.json").write_text(json.dumps(out))
    subprocess.run(["umount", "/mnt"], check=False)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
