"""What happens inside the guest in the test of the service: started as its unit starts it, idle, busy, and ended.

Results go to /shared/out.json. What the service does is read from its metrics, on a tmpfs: looking into the store would
itself be measured.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from imarium.securityfs import ImaDirectory

SHARED = Path("/shared")
PLACE = Path("/run/imarium")
METRICS = PLACE / "imarium.prom"
PROGRAMS = Path("/opt/imarium-test")
STORE = "/var/lib/imarium-test-store"
IDLE_SECONDS = 20.0
CONFIGURATION = f"""
[[source]]
store = "{STORE}"
interval = 2.0
records = 1000
poll = 0.2
[api]
listen = ["unix:{PLACE}/api.sock"]
[metrics]
file = "{METRICS}"
interval = 0.5
"""
LOCKED_UP = ("setpriv", "--bounding-set=-all,+sys_admin", "--inh-caps=-all", "--no-new-privs")
IMA = ImaDirectory(patience=5.0)


def metric(name: str) -> float:
    """A metric of the service, now; -1 if it is not there yet."""
    lines = METRICS.read_text().splitlines() if METRICS.exists() else []
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"imarium_{name}{{")), -1.0)


def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("it never came to be")
        time.sleep(0.1)


def drained(times: int) -> None:
    """Wait until the service has drained so many times more."""
    wanted = metric("drains_total") + times
    until(lambda: metric("drains_total") >= wanted)


def known() -> tuple[float, int]:
    """How many records the log has, and how many the kernel."""
    return metric("log_records"), IMA.count()


def measured(name: str) -> None:
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    path = PROGRAMS / name
    shutil.copy("/bin/true", path)
    with path.open("ab") as file:
        file.write(name.encode())
    subprocess.run([path], check=True)


def shown() -> dict[str, object]:
    """The whole list, mounted, and what evmctl says of it, which reads the TPM's registers itself.

    The first reader makes the policy measure what the second finds unchanged.
    """
    place = Path("/run/list")
    place.mkdir()
    command = [sys.executable, "-m", "imarium", "log", "mount", str(place), "--store", STORE]
    mounting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert mounting.stderr is not None
    said = mounting.stderr.readline()
    for _ in range(2):
        (place / "binary_runtime_measurements").read_bytes()
        checked = subprocess.run(
            ["evmctl", "ima_measurement", "--ignore-violations", place / "binary_runtime_measurements"],
            capture_output=True,
            text=True,
            check=False,
        )
    count = int((place / "runtime_measurements_count").read_text())
    mounting.send_signal(signal.SIGTERM)
    return {
        "said": said,
        "status": mounting.wait(timeout=60),
        "evmctl": [checked.returncode, checked.stdout + checked.stderr],
        "count": count,
    }


def main() -> None:
    PLACE.mkdir()
    configuration = PLACE / "keep.toml"
    configuration.write_text(CONFIGURATION)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(PLACE / "notify"))
    environment = os.environ | {"NOTIFY_SOCKET": str(PLACE / "notify")}
    command = [*LOCKED_UP, sys.executable, "-m", "imarium", "keep", "--config", str(configuration)]
    with (SHARED / "log").open("wb") as log:
        service = subprocess.Popen(command, stderr=log, env=environment)
    manager.settimeout(120)
    ready = manager.recv(4096).decode()
    status = Path(f"/proc/{service.pid}/status").read_text()
    until(lambda: metric("drains_total") >= 1)
    drained(3)
    before, drains = known(), metric("drains_total")
    time.sleep(IDLE_SECONDS)
    after, idle_drains = known(), metric("drains_total") - drains
    for number in range(20):
        measured(f"program-{number}")
    drained(2)
    busy = known()
    measured("the-last")
    service.send_signal(signal.SIGTERM)
    status_at_end = service.wait(timeout=60)
    left, freed = IMA.count(), metric("freed_records_total")
    out = {
        "shown": shown(),
        "ready": ready,
        "capabilities": [line for line in status.splitlines() if line.startswith("Cap")],
        "before": before,
        "after": after,
        "idle_drains": idle_drains,
        "busy": busy,
        "status": status_at_end,
        "left": left,
        "freed": freed,
    }
    (SHARED / "out.json").write_text(json.dumps(out))
    shutil.copytree(STORE, SHARED / "store")


if __name__ == "__main__":
    main()
