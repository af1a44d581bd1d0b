"""The custody API inside a guest whose policy measures what root reads: results in /shared/out.json."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from imarium.custody import Custody, Log, Schedule, Service, SourceConfig, SourceStatus, Store, Whole
from imarium.custody.machine import boot_id, registers_of
from imarium.formats.records import ListLayout, read_records
from imarium.securityfs import ImaDirectory
from imarium.web import Endpoint, Holding, Server, create_app

SHARED = Path("/shared")
STORE = Path("/mnt/store")
SOCKET = Path("/run/api")
IMA = ImaDirectory(patience=5.0)
REGISTERS = registers_of(IMA.path)
ROUNDS = 10


class Client(http.client.HTTPConnection):
    """HTTP over the service's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(SOCKET))

    def get(self, path: str) -> tuple[dict[str, str], bytes]:
        """The headers and the body of an answer."""
        self.request("GET", path)
        answer = self.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body!r}")
        return {name.lower(): value for name, value in answer.getheaders()}, body


def whole(known: Log | None) -> Whole:
    return Custody(STORE).whole(IMA, boot_id=boot_id(), registers=REGISTERS, recheck=False, known=known)


def settled(service: Service) -> SourceStatus:
    """Drain until nothing new comes any more."""
    deadline = time.monotonic() + 120
    before = service.request(timeout=60)
    while (after := service.request(timeout=60)).kept_records or after.records != before.records:
        if time.monotonic() > deadline:
            raise SystemExit("new records come and come")
        before = after
    return service.status().sources[0]


def readers(service: Service) -> dict[str, object]:
    """What verifiers add to the list that they read: each round a drain, and reads of every kind."""
    client = Client("imarium")
    paths = ["records", "records?form=ascii&bank=sha256", "records?form=json&pending=true", "checkpoint"]

    def read() -> None:
        for path in paths:
            client.get(f"/v1/logs/newest/{path}")
        client.get("/v1/status")

    read()  # what it imports and opens is measured now
    settled(service)
    read()
    before = settled(service)
    violations = IMA.violations()
    for _ in range(ROUNDS):
        read()
        service.request(timeout=60)
    after = service.status().sources[0]
    return {"added": after.records - before.records + IMA.count(), "violations": IMA.violations() - violations}


def news(service: Service) -> dict[str, object]:
    """A verifier waits, programs run, a drain brings them."""
    before = settled(service).records
    found: list[tuple[dict[str, str], bytes]] = []
    waiting = Client("imarium", timeout=60)
    waiter = threading.Thread(
        target=lambda: found.append(waiting.get(f"/v1/logs/newest/records?from={before}&wait=50"))
    )
    waiter.start()
    program = Path("/mnt/program")
    program.write_bytes(Path("/bin/true").read_bytes() + b"news")
    program.chmod(0o755)
    subprocess.run([program], check=True)
    service.request(timeout=60)
    waiter.join(60)
    headers, body = found[0]
    names = [record.name for record in read_records([body], ListLayout(), first=before)]
    return {"seen": os.fsencode(program) in names, "next": int(headers["imarium-next"]), "before": before}


def main() -> None:
    subprocess.run(["mount", "/dev/vda", "/mnt"], check=True)
    schedule = Schedule(3600, records=None, poll=0.5)
    service = Service([SourceConfig("kernel", IMA, STORE, boot_id(), REGISTERS, schedule=schedule)])
    service.start()
    out: dict[str, object] = {}
    try:
        service.request(timeout=60)
        server = Server(create_app([Holding("kernel", Store(STORE), whole=whole)]), [Endpoint(path=SOCKET)])
        server.bind()
        server.start()
        try:
            for part in (readers, news):
                out[part.__name__] = part(service)
            client = Client("imarium")
            kept = client.get("/v1/logs/newest/records")[1]
            settled(service)
            out["same"] = b"".join(Store(STORE).log().blocks()).startswith(kept)
        finally:
            server.stop()
    finally:
        service.stop()
    (SHARED / "out.json").write_text(json.dumps(out))
    subprocess.run(["umount", "/mnt"], check=False)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
