"""``imarium keep`` as a service: a process with a configuration, a service manager, metrics, an API, and a log."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.real.conftest import Swtpm
from tests.real.running_engine import start_engine
from tests.unit.custody_kernel import record, records
from tests.waiting import PATIENCE, until

from imarium.custody import Store

SECONDS = PATIENCE


class Machine:
    """A directory of list files, a configuration, and a service manager that listens."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.source = place / "ima"
        self.source.mkdir()
        self.list = self.source / "binary_runtime_measurements"
        self.count = self.source / "runtime_measurements_count"
        self.measured = 0
        self.measure("boot_aggregate", "/a")
        self.config = place / "keep.toml"
        self.metrics = place / "imarium.prom"
        self.socket = place / "api.sock"
        self.configure()
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(place / "notify"))
        self.running: subprocess.Popen[str] | None = None

    def measure(self, *names: str) -> None:
        with self.list.open("ab") as file:
            file.write(records(*names))
        self.measured += len(names)
        self.count.write_text(f"{self.measured}\n")

    def configure(self, **changes: str) -> None:
        source = {"interval": "60", "records": "1", "poll": "0.1", **changes}
        keys = "".join(f"{name} = {value}\n" for name, value in source.items())
        self.config.write_text(
            f'[[source]]\nname = "test"\ndirectory = "{self.source}"\nstore = "{self.place / "store"}"\n{keys}'
            f'[api]\nlisten = ["unix:{self.socket}"]\n[metrics]\nfile = "{self.metrics}"\ninterval = 0.2\n'
        )

    def start(self, *arguments: str, watchdog: float = 4.0) -> "subprocess.Popen[str]":
        environment = os.environ | {
            "NOTIFY_SOCKET": str(self.place / "notify"),
            "WATCHDOG_USEC": str(int(watchdog * 1e6)),
        }
        command = [sys.executable, "-m", "imarium", "keep", "--config", str(self.config), *arguments]
        self.running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        return self.running

    def heard(self, wanted: str) -> list[str]:
        """What the service told its manager, up to a message that begins so."""
        told: list[str] = []
        deadline = time.monotonic() + SECONDS
        while not any(message.startswith(wanted) for message in told):
            ready, _, _ = select.select([self._manager], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the service said {told} and not {wanted}"
            told.append(self._manager.recv(4096).decode())
        return told

    def stop(self) -> tuple[int, list[dict[str, Any]]]:
        """End the service; its status and what it logged."""
        assert self.running is not None
        self.running.send_signal(signal.SIGTERM)
        _, err = self.running.communicate(timeout=SECONDS)
        return self.running.returncode, [json.loads(line) for line in err.splitlines()]

    def close(self) -> None:
        self._manager.close()
        if self.running is not None and self.running.poll() is None:
            self.running.kill()
            self.running.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def gauges(text: str) -> dict[str, float]:
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


def test_it_tells_its_manager_and_keeps_what_comes(machine: Machine) -> None:
    machine.start()
    ready = machine.heard("READY=1")[-1]
    assert "STATUS=" in ready
    machine.heard("WATCHDOG=1")
    machine.measure("/b", "/c")
    told = machine.heard("STATUS=ok: test: 4 records kept in log 0000")
    status, log = machine.stop()
    assert status == 0
    assert any(message.startswith("STOPPING=1") for message in [*told, *machine.heard("STOPPING=1")])
    assert b"".join(Store(machine.place / "store").log().blocks()) == machine.list.read_bytes()
    events = [line["event"] for line in log]
    assert events[0] == "listening"
    assert {"started", "drained", "stopped"} <= set(events)
    assert all(line["source"] == "test" for line in log if line["event"] != "listening")


def test_the_last_records_are_kept_when_it_is_stopped(machine: Machine) -> None:
    machine.configure(records="0")
    machine.start()
    machine.heard("STATUS=ok: test: 2 records kept")
    machine.measure("/late")
    status, _ = machine.stop()
    assert status == 0
    assert Store(machine.place / "store").log().records == 3


def test_metrics_are_in_the_file_and_on_the_api(machine: Machine) -> None:
    machine.start()
    until(lambda: machine.metrics.exists() and gauges(machine.metrics.read_text())["imarium_kept_records_total"] == 2)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(machine.socket)), base_url="http://service") as client:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert gauges(answer.text)["imarium_log_records"] == 2
        status = client.get("/v1/status").json()
        assert status["sources"] == ["test"]
        assert status["service"]["sources"][0]["kept"]["records"] == 2
        assert client.get("/v1/openapi.json").json()["paths"].keys() & {"/metrics"} == set()
    assert machine.stop()[0] == 0
    assert not machine.socket.exists()


def test_errors_are_counted_logged_and_got_over(machine: Machine) -> None:
    good = machine.list.read_bytes()
    machine.list.write_bytes(good[:-1])
    machine.start()
    machine.heard("STATUS=degraded")
    until(machine.metrics.exists)
    until(lambda: 'imarium_errors_total{code="malformed_record"' in machine.metrics.read_text())
    machine.list.write_bytes(good)
    machine.heard("STATUS=ok: test: 2 records kept")
    status, log = machine.stop()
    assert status == 0
    kinds = [line["event"] for line in log]
    assert kinds.index("failed") < kinds.index("recovered")


def test_a_service_that_hangs_does_not_say_that_it_lives(machine: Machine) -> None:
    running = machine.start(watchdog=1.0)
    machine.heard("WATCHDOG=1")
    os.mkfifo(machine.place / "fifo")
    (machine.place / "fifo").replace(machine.list)  # whoever opens it waits for ever
    machine.count.write_text("9\n")
    last = begun = time.monotonic()
    while time.monotonic() - last < 4.0:
        ready, _, _ = select.select([machine._manager], [], [], 0.5)
        if ready and machine._manager.recv(4096).startswith(b"WATCHDOG=1"):
            last = time.monotonic()
            assert last - begun < SECONDS, "it said that all is well while it hung"
    assert running.poll() is None


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"method": '"steal"'}, 3, "source.0.method: "),
        ({"wait": "-1"}, 3, "source.0.wait: "),
        ({"interval": "0.01"}, 2, "source.0: "),
        ({"method": '"prompt"'}, 4, "source.0.directory: the kernel has no staging"),
    ],
)
def test_check_says_what_is_wrong(machine: Machine, change: dict[str, str], status: int, said: str) -> None:
    machine.configure(**change)
    done = check(machine)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith(f"{machine.config}: {said}")
    assert done.stdout.count("\n") == 1
    assert not (machine.place / "store").exists()


def test_check_finds_each_thing_that_is_missing(machine: Machine) -> None:
    text = machine.config.read_text().replace(str(machine.metrics), "/nowhere/x.prom")
    text = text.replace("unix:", "unix:/nowhere").replace(str(machine.source), "/nowhere/ima")
    machine.config.write_text(text)
    done = check(machine)
    assert done.returncode == 4
    keys = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert keys == ["source.0.directory", "api", "metrics.file"]
    machine.config.write_text(machine.config.read_text() + "[api2]\nx = 1\n")
    assert json.loads(check(machine, "--json").stdout)["problems"] == [
        {"key": "api2", "detail": "there is no such key", "status": 3}
    ]


def test_check_says_what_contradicts_and_what_is_missing_together(machine: Machine, tmp_path: Path) -> None:
    other = f'[[source]]\nname = "other"\ndirectory = "{tmp_path}/gone"\nstore = "{tmp_path}/store"\n'
    machine.config.write_text(other + machine.config.read_text().replace(f"unix:{machine.socket}", "tcp:127.0.0.1:0"))
    done = check(machine)
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["source", "source.0.directory", "api"]


def test_tcp_without_tls_is_refused_before_anything_is_kept(machine: Machine) -> None:
    machine.config.write_text(machine.config.read_text().replace(f"unix:{machine.socket}", "tcp:127.0.0.1:0"))
    assert check(machine).returncode == 2
    process = machine.start()
    _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err.count("\n")) == (2, 1)


def test_a_good_configuration_is_good_also_while_the_service_runs(machine: Machine) -> None:
    assert check(machine).stdout == f"{machine.config}: good; sources: test\n"
    machine.start()
    machine.heard("READY=1")
    assert check(machine).returncode == 0
    assert machine.stop()[0] == 0


def test_once_with_a_configuration(machine: Machine) -> None:
    command = [sys.executable, "-m", "imarium", "keep", "--config", str(machine.config), "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["total"]["records"] == 2
    machine.list.write_bytes(machine.list.read_bytes() + record("/b"))
    assert "kept     1 record," in subprocess.run(command[:-1], capture_output=True, text=True, check=True).stdout
    refused = subprocess.run([*command, "--store", "/x"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_once_with_several_sources_drains_those_it_can(machine: Machine, tmp_path: Path) -> None:
    other = f'[[source]]\nname = "gone"\ndirectory = "{tmp_path / "gone"}"\nstore = "{tmp_path / "gone-store"}"\n'
    machine.config.write_text(other + machine.config.read_text())
    command = [sys.executable, "-m", "imarium", "keep", "--config", str(machine.config), "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert str(tmp_path / "gone") in done.stderr
    assert {name: one["total"]["records"] for name, one in json.loads(done.stdout).items()} == {"test": 2}


def check(machine: Machine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "imarium", "keep", "--check", "--config", str(machine.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_call_gives_a_verifier_evidence_that_passes(swtpm: Swtpm, machine: Machine, tmp_path: Path) -> None:
    """An engine measures into a TPM, the service keeps its list, and makes evidence over the verifier's nonce."""
    (tmp_path / "engine").mkdir()
    engine = start_engine(tmp_path / "engine", "--rot", f"tpm:{swtpm.tcti}")
    try:
        machine.source = engine.root
        machine.configure(tcti=f'"{swtpm.tcti}"')
        machine.config.write_text(machine.config.read_text().replace("[api]", "[api]\nquotes = true"))
        machine.start()
        machine.heard("STATUS=ok")
        nonce = "c3" * 32
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(machine.socket)), base_url="http://s", timeout=SECONDS
        ) as client:
            answer = client.post("/v1/quote", json={"nonce": nonce, "from": 0})
        assert answer.status_code == 200, answer.text
        (tmp_path / "evidence").write_bytes(answer.content)
        command = [sys.executable, "-m", "imarium", "verify", str(tmp_path / "evidence"), "--nonce", nonce, "--json"]
        ak = tmp_path / "store" / "ak" / "ak.pub"
        done = subprocess.run([*command, "--ak", str(ak)], capture_output=True, text=True, check=False)
        assert json.loads(done.stdout)["verdict"] == "pass", done.stdout + done.stderr
        assert machine.stop()[0] == 0
    finally:
        assert engine.end() == 0
