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
IDLE_SECONDS = 20.0
CONFIGURATION = f"""
[[source]]
store = "/var/lib/imarium-test-store"
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
    out = {
        "ready": ready,
        "capabilities": [line for line in status.splitlines() if line.startswith("Cap")],
        "before": before,
        "after": after,
        "idle_drains": idle_drains,
        "busy": busy,
        "status": service.wait(timeout=60),
        "left": IMA.count(),
        "freed": metric("freed_records_total"),
    }
    (SHARED / "out.json").write_text(json.dumps(out))
    shutil.copytree("/var/lib/imarium-test-store", SHARED / "store")


if __name__ == "__main__":
    main()
