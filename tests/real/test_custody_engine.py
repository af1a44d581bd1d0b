"""Custody of a mounted engine's list: killed at every write, sync, rename and command; its methods; two services."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
from tests.real.conftest import Swtpm
from tests.real.running_engine import Running, start_engine
from tests.real.storage_tape import Tape
from tests.waiting import PATIENCE, until

from imarium.cli.options import TCTI_VARIABLES
from imarium.custody import Keeper, KeepResult, Method, Store
from imarium.engine import ask
from imarium.formats.records import ListLayout, read_records
from imarium.securityfs import Held, ImaDirectory


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    policy = tmp_path / "policy"
    policy.write_text("measure func=FILE_CHECK mask=MAY_READ\n")
    running = start_engine(tmp_path, "--rot", "none", "--policy", policy)
    yield running
    assert running.end() == 0


class Host:
    """A running engine, the store of its list, and all that was ever measured."""

    def __init__(self, engine: Running, place: Path) -> None:
        self.engine, self.store, self.files = engine, place / "store", place / "files"
        self.files.mkdir()
        self.measured = 0

    def measure(self, count: int) -> None:
        """Have the engine measure files it does not know."""
        paths = []
        for _ in range(count):
            self.measured += 1
            path = self.files / f"file-{self.measured:04}"
            path.write_text(path.name)
            paths.append(str(path))
        done = ask(self.engine.state, {"command": "measure", "paths": paths})
        assert [each["recorded"] for each in done["files"]] == [True] * count  # type: ignore[attr-defined]

    def keep(self, method: Method) -> KeepResult:
        source = ImaDirectory(self.engine.root, patience=20.0)
        with closing(Keeper(Store(self.store, create=True), source, boot_id="engine")) as keeper:
            return keeper.once(method)

    def killed_at(self, method: Method, point: int, tape: Path) -> bool:
        """Keep in a child that dies at a break point; whether it came so far."""
        child = os.fork()
        if child == 0:
            try:
                Tape(self.store, tape, point).install(Held)
                self.keep(method)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert not os.WIFSIGNALED(status) or os.WTERMSIG(status) == signal.SIGKILL
        return os.WIFSIGNALED(status)

    def names(self, data: bytes) -> list[str]:
        names = [(record.name or b"").decode() for record in read_records([data], ListLayout())]
        return [name.removeprefix(f"{self.files}/") for name in names if name.startswith(str(self.files))]


@pytest.fixture
def host(engine: Running, tmp_path: Path) -> Host:
    return Host(engine, tmp_path)


@pytest.mark.parametrize("method", ["prompt", "trim"])
def test_killed_at_any_point_nothing_is_lost_or_doubled(
    host: Host, method: Method, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.keep(method)
    kept, point, killed = host.store / "logs/0000/list", 0, True
    while killed:
        point += 1
        before = kept.read_bytes()
        host.measure(2)
        pending = host.engine.binary.read_bytes()
        killed = host.killed_at(method, point, tmp_path / "tape")
        if point % 2:
            host.measure(1)
        assert host.keep(method).verdict == "unproven"
        now = kept.read_bytes()
        assert now.startswith(before + pending), point
        assert host.engine.binary.read_bytes() == b"", point
        assert Store(host.store).numbers == (0,)
    assert host.names(kept.read_bytes()) == [f"file-{number:04}" for number in range(1, host.measured + 1)]
    with capsys.disabled():
        print(f"[{method}: {point - 1} break points on a mounted engine] ", end="")
    assert point > 40


def test_what_is_staged_by_others_and_who_reads_on(host: Host) -> None:
    host.measure(2)
    source = ImaDirectory(host.engine.root, patience=5.0)
    source.stage()
    host.measure(1)
    assert host.keep("prompt").freed_records >= 3
    host.measure(3)
    shutil.copy(host.engine.binary, host.files / "copy")
    assert source.count() == 3
    assert host.keep("trim").method == "trim"
    assert host.names((host.store / "logs/0000/list").read_bytes()) == [f"file-{number:04}" for number in range(1, 7)]


@dataclass
class Keeping:
    """A service, and the events that it has told."""

    process: subprocess.Popen[str]
    events: list[str] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.events.append(json.loads(line)["event"])

    def has_started(self) -> bool:
        return "started" in self.events


@contextmanager
def services(host: Host, *stores: Path) -> Iterator[list[Keeping]]:
    """A service for each of these stores, as a user starts it, all on the engine's list; ended with SIGTERM."""
    with ExitStack() as stack:
        started = []
        for store in stores:
            command = [sys.executable, "-m", "imarium", "keep", "--json", "--interval", "1", "--at-records", "3"]
            command += ["--source", str(host.engine.root), "--store", str(store), "--wait", "20"]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            running = Keeping(process)
            listener = Thread(target=running.listen)
            listener.start()
            stack.callback(listener.join)
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.kill)
            started.append(running)
            until(running.has_started)
        yield started
        for running in started:
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(PATIENCE) == 0


def kept(store: Path) -> list[bytes]:
    found = Store(store)
    return [found.log(number).list_path.read_bytes() for number in found.numbers]


def test_two_services_with_one_store_lose_and_double_nothing(host: Host) -> None:
    with services(host, host.store, host.store) as both:
        before = [service.events.count("drained") for service in both]

        def happened() -> bool:
            host.measure(3)
            time.sleep(0.1)
            return host.measured > 60 and all(
                service.events.count("drained") > count for service, count in zip(both, before, strict=True)
            )

        until(happened)
    assert host.engine.binary.read_bytes() == b""
    (data,) = kept(host.store)
    assert host.names(data) == [f"file-{number:04}" for number in range(1, host.measured + 1)]


def test_two_services_with_a_store_each_share_the_list_and_say_what_they_miss(host: Host, tmp_path: Path) -> None:
    """Whoever comes first gets the records. Who sees a gap keeps what it finds, also where the other keeps it too."""
    other = tmp_path / "other"

    def names(store: Path) -> list[str]:
        return host.names(b"".join(kept(store)))

    with services(host, host.store, other) as both:

        def happened() -> bool:
            host.measure(3)
            time.sleep(0.1)
            drained = all("drained" in service.events for service in both)
            gap = any("gap" in service.events for service in both)
            return host.measured > 90 and drained and gap and all(map(names, (host.store, other)))

        until(happened)
    parts = [names(store) for store in (host.store, other)]
    left = host.names(host.engine.binary.read_bytes())
    assert sorted({*parts[0], *parts[1], *left}) == [f"file-{number:04}" for number in range(1, host.measured + 1)]
    assert all(part == sorted(set(part)) for part in parts)
    assert all(parts)


def test_the_environment_names_the_tpm_and_who_only_looks_needs_none(shared_swtpm: Swtpm, tmp_path: Path) -> None:
    """The command, as one that has the variable uses it; then without it; and the list mounted without a TPM."""
    running = start_engine(tmp_path, "--rot", f"tpm:{shared_swtpm.tcti}")
    try:
        place = ["--source", str(running.root), "--store", str(tmp_path / "store")]
        keep = [sys.executable, "-m", "imarium", "keep", "--once", "--method", "follow", "--json", *place]
        clean = {name: value for name, value in os.environ.items() if name not in TCTI_VARIABLES}
        named = [({name: shared_swtpm.tcti}, "proven") for name in TCTI_VARIABLES]
        for variables, verdict in (*named, ({}, "refused")):
            done = subprocess.run(keep, env=clean | variables, capture_output=True, text=True, check=False)
            assert json.loads(done.stdout)["verdict"] == verdict, done.stderr
        assert "--tcti" in done.stderr
        (tmp_path / "look").mkdir()
        mount = [sys.executable, "-m", "imarium", "log", "mount", str(tmp_path / "look"), *place]
        with subprocess.Popen(mount, env=clean, stderr=subprocess.PIPE, text=True) as looking:
            assert looking.stderr is not None
            said = looking.stderr.readline()
            looking.send_signal(signal.SIGTERM)
        assert said.startswith("mounted at"), said
    finally:
        assert running.end() == 0
