"""Custody killed at every write, sync, rename and kernel command; and with all lost that was not synced by then."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.storage_tape import LOSSES, Disk, Tape
from tests.unit.custody_files import FileKernel

from imarium.custody import Keeper, Machine, Method, Store, compaction, log, no_registers


class Host:
    """A kernel in files and a store beside it, in a directory that can be copied whole."""

    def __init__(self, path: Path, *, tpm: bool) -> None:
        self.path, self.tpm = path, tpm
        self.boot_id, self.log = "boot", 0
        self.store = path / "store"
        self.kernel = FileKernel(path / "kernel")

    def keep(self, method: Method) -> str:
        registers = self.kernel.registers if self.tpm else no_registers
        keeper = Keeper(
            Store(self.store, create=True), self.kernel, boot_id=self.boot_id, registers=registers, machine=self.machine
        )
        try:
            return keeper.once(method).verdict
        finally:
            keeper.close()

    def machine(self) -> Machine:
        return Machine(self.boot_id, reset_count=self.log)

    def copy(self, path: Path) -> "Host":
        shutil.copytree(self.path, path)
        copied = Host(path, tpm=self.tpm)
        copied.boot_id, copied.log = self.boot_id, self.log
        return copied


def first_drain(host: Host) -> None:
    host.kernel.measure("a", "b" * 300)
    host.keep("prompt")


def later_drain(host: Host) -> None:
    """One that finds records staged by others, and others behind them."""
    host.kernel.measure("c")
    host.kernel.stage()
    host.kernel.measure("d", "e" * 300)
    host.keep("prompt")


def trimming(host: Host) -> None:
    host.kernel.measure("c", "d" * 300)
    host.keep("trim")


def trimming_refused(host: Host) -> None:
    host.kernel.change(flush_htable=True)
    host.kernel.measure("c", "d" * 300)
    host.keep("trim")


def following(host: Host) -> None:
    host.kernel.measure("c")
    host.keep("follow")
    host.kernel.measure("d", "e" * 300)
    host.keep("follow")


def suspended(host: Host) -> None:
    """A kexec begins before the drain, and the next kernel goes on with what was not deleted."""
    host.kernel.measure("c", "d" * 300)
    host.kernel.change(suspended=True)
    host.keep("prompt")


def after_a_reboot(host: Host) -> None:
    """The first drain of a new life, which begins a new log."""
    host.kernel.measure("c", "d" * 300)
    host.keep("prompt")


def compacting(host: Host) -> None:
    """A drain at whose end the journal's older lines are replaced."""
    log._LONG_JOURNAL, compaction._NEWEST = 1, 2
    host.kernel.measure("c")
    host.keep("prompt")


SCENARIOS: dict[Callable[[Host], None], int] = {
    first_drain: 90,
    later_drain: 80,
    trimming: 40,
    trimming_refused: 60,
    following: 40,
    suspended: 30,
    after_a_reboot: 90,
    compacting: 50,
}
"""What is killed, and how many break points it has at least."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where syncing takes no time: what a crash loses is played, not waited for."""
    with tempfile.TemporaryDirectory(prefix="imarium-test-", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(params=list(SCENARIOS), ids=lambda scenario: scenario.__name__)
def scenario(request: pytest.FixtureRequest) -> Callable[[Host], None]:
    return request.param


@pytest.fixture(params=[True, False], ids=["tpm", "no-tpm"])
def host(request: pytest.FixtureRequest, place: Path, scenario: Callable[[Host], None]) -> Host:
    (place / "host").mkdir()
    host = Host(place / "host", tpm=request.param)
    host.kernel.measure("boot_aggregate")
    if scenario is not first_drain:
        host.kernel.measure("before")
        host.keep("prompt")
    if scenario is compacting:
        for number in range(4):
            host.kernel.measure(str(number))
            host.keep("prompt")
    if scenario is after_a_reboot:
        host.kernel.boot()
        host.boot_id, host.log = "next", 1
    return host


def run_until(host: Host, scenario: Callable[[Host], None], tape: Path, stop: int | None) -> int:
    """Run in a child until break point ``stop``; how many points there were, or -1 if it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            taping = Tape(host.store, tape, stop)
            taping.install(FileKernel)
            scenario(host)
            os.write(write, str(taping.points).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        points = said.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert points, "the scenario failed"
    return int(points)


def crashes(host: Host, scenario: Callable[[Host], None], place: Path) -> Iterator[tuple[int, Host, Path]]:
    """For each break point: its number, the host as the kill left it, and the tape."""
    points = run_until(host.copy(place / "counted"), scenario, place / "tape", None)
    for point in range(1, points + 1):
        crashed, tape = host.copy(place / f"{point}"), place / f"{point}-tape"
        assert run_until(crashed, scenario, tape, point) == -1, f"not killed at {point} of {points}"
        yield point, crashed, tape
        shutil.rmtree(crashed.path)


def content(path: Path) -> dict[str, bytes]:
    """All files below a directory, which is removed if it is a copy."""
    found = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    if path.name == "kept":
        shutil.rmtree(path, ignore_errors=True)
    return found


def recovered(host: Host, what: str) -> None:
    """Drain what is left, and compare all that was kept with all that was ever measured."""
    if host.kernel.marks.suspended:
        host.kernel.kexec()
        host.boot_id = "next"
    host.kernel.measure("after")
    wanted = "proven" if host.tpm else "unproven"
    assert host.keep("prompt") == wanted, what
    assert Store(host.store).numbers[-1] == host.log, what
    assert (host.store / f"logs/{host.log:04}/list").read_bytes() == host.kernel.all(), what
    assert host.kernel.held() == b"", what


def test_killed_at_any_point_nothing_is_lost_or_doubled(
    host: Host, scenario: Callable[[Host], None], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = 0
    for point, crashed, tape in crashes(host, scenario, place):
        disk = Disk(crashed.store, at_first=host.store)
        disk.play(tape)
        disk.put(place / "kept", "nothing")
        assert content(place / "kept") == content(crashed.store), f"the tape is not what was done until {point}"
        for loss in LOSSES:
            lossy = crashed.copy(place / "lossy")
            if lossy.store.exists():
                shutil.rmtree(lossy.store)
            disk.put(lossy.store, loss)
            recovered(lossy, f"point {point}, lost {loss} that was not synced")
            shutil.rmtree(lossy.path)
        recovered(crashed, f"point {point}, killed")
    with capsys.disabled():
        print(f"[{scenario.__name__}: {point} break points, {len(LOSSES) + 1} ways each] ", end="")
    assert point >= SCENARIOS[scenario]
