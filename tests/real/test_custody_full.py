"""Custody on a disk that is full, read-only or broken: nothing is deleted, the error says so, and it goes on."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.unit.custody_kernel import Kernel, records
from tests.waiting import PATIENCE, until

from imarium.custody import (
    Custody,
    Event,
    Hook,
    Keeper,
    KeepResult,
    Schedule,
    Service,
    SourceConfig,
    SourceStatus,
    Step,
    Store,
    StoreBusy,
    check_store,
)
from imarium.errors import MissingComponent

SIZE, PAGE = 2 << 20, 4096
FEW = ("boot_aggregate", "a", "b")
MANY = tuple(f"/{number:04}/" + "x" * 200 for number in range(2000))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "imarium-test", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    assert mounted.returncode == 0, f"cannot mount a small tmpfs, so run as root with CAP_SYS_ADMIN: {mounted.stderr}"
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, pages: int) -> Path:
    """Fill the disk but for ``pages``."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - pages * PAGE)
    return filler


def keep(disk: Path, kernel: Kernel) -> KeepResult:
    store = Store(disk / "store", create=True)
    with closing(Keeper(store, kernel, boot_id="boot", registers=kernel.registers)) as keeper:
        return keeper.once()


def test_a_store_on_a_read_only_file_system_is_read_and_checked_and_not_written_to(disk: Path) -> None:
    kernel = Kernel()
    kernel.boot()
    keep(disk, kernel)
    kernel.measure("a")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    custody = Custody(disk / "store", patience=0.0)
    whole = custody.whole(kernel, boot_id="boot", registers=kernel.registers)
    assert (whole.records, whole.pending) == (1, kernel.current_list)
    assert list(check_store(custody.store)) == []
    with custody.store.lock(shared=True), custody.store.lock(shared=True):
        pass
    held = kernel.current_list
    with pytest.raises(MissingComponent, match="Read-only file system"):
        keep(disk, kernel)
    assert kernel.current_list == held
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    with custody.store.lock(), pytest.raises(StoreBusy), custody.store.lock(shared=True):
        pass
    assert keep(disk, kernel).freed_records == 1


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4, 8, 60])
@pytest.mark.parametrize("begun", [True, False], ids=["old-log", "new-log"])
def test_a_full_disk_loses_nothing(disk: Path, begun: bool, pages: int) -> None:
    kernel = Kernel()
    kernel.boot()
    kernel.measure(*FEW[1:])
    if begun:
        assert keep(disk, kernel).freed_records == len(FEW)
    kernel.measure(*MANY)
    freed, held = list(kernel.freed), kernel.current_list
    filler = fill(disk, pages)
    for _ in range(3):
        with pytest.raises(MissingComponent, match="No space left on device; make room") as caught:
            keep(disk, kernel)
        assert "\n" not in str(caught.value)
        assert (kernel.freed, kernel.staged_list + kernel.current_list) == (freed, held)
    if begun:
        log = Store(disk / "store").log()
        assert records(*FEW, *MANY).startswith(b"".join(log.blocks()))
        assert all(entry.event is not Event.KEPT for entry in log.journal.entries[3:])
    kernel.measure("meanwhile")
    filler.unlink()
    result = keep(disk, kernel)
    assert (result.verdict, result.log) == ("proven", 0)
    assert (kernel.staged_list, kernel.current_list) == (b"", b"")
    assert (disk / "store/logs/0000/list").read_bytes() == records(*FEW, *MANY, "meanwhile")
    assert {path.name for path in (disk / "store/logs/0000").iterdir()} == {"list", "journal", "meta.json", "index"}
    assert [path.name for path in (disk / "store/logs").iterdir()] == ["0000"]


BATCH = ("x", "y" * 40, "z")


def filling(disk: Path, at: Step, kernel: Kernel, last: bytes) -> Hook:
    """Fills the disk at a step, until the kernel's list ends with ``last``."""

    def hook(step: Step) -> None:
        if step is at and not (kernel.staged_list + kernel.current_list).endswith(last):
            fill(disk, 0)

    return hook


@pytest.mark.parametrize("method", ["prompt", "trim", "follow"])
def test_the_disk_is_full_after_every_byte_of_a_batch(disk: Path, method: Literal["prompt", "trim", "follow"]) -> None:
    """The list has room for so many bytes and not one more: the rest of its last page, the disk being full."""
    whole = len(records(*BATCH))
    for room in range(whole):
        place, kernel = disk / "store", Kernel()
        kernel.boot()
        pad = -(len(records("boot_aggregate", "")) + room) % PAGE
        kernel.measure("p" * pad)
        keeper = Keeper(Store(place, create=True), kernel, boot_id="boot", registers=kernel.registers)
        keeper.once(method)
        kernel.measure(*BATCH)
        freed, held = list(kernel.freed), kernel.current_list
        path = place / "logs/0000/list"
        assert -path.stat().st_size % PAGE == room

        hook = filling(disk, Step.READ_ALL if method == "follow" else Step.READ, kernel, records("later"))
        full = Keeper(Store(place), kernel, boot_id="boot", registers=kernel.registers, hook=hook)
        with pytest.raises(MissingComponent, match="No space left on device; make room"):
            full.once(method)
        assert path.stat().st_size % PAGE == 0, "as much was written as there was room for"
        with pytest.raises(MissingComponent, match="No space left on device; make room"):
            full.once(method)
        assert (kernel.freed, kernel.staged_list + kernel.current_list) == (freed, held)
        (disk / "filler").unlink()
        kernel.measure("later")
        result = full.once(method)
        assert result.verdict == "proven", room
        assert path.read_bytes() == records("boot_aggregate", "p" * pad, *BATCH, "later"), room
        assert (kernel.staged_list + kernel.current_list == b"") == (method != "follow")
        full.close()
        keeper.close()
        subprocess.run(["rm", "-r", str(place)], check=True)


CALLS = ("write", "fsync", "truncate", "ftruncate", "pwrite", "rename", "replace", "mkdir", "unlink")


def failing_once(monkeypatch: pytest.MonkeyPatch, at: int, reached: list[str]) -> None:
    """Have the call of number ``at``, from 0, fail with EIO: a write after half of it, others with nothing done."""

    def replaced(name: str) -> Callable[..., object]:
        really = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> object:
            reached.append(name)
            if len(reached) != at + 1:
                return really(*arguments, **options)
            if name == "write":
                really(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, replaced(name))


@pytest.mark.parametrize("begun", [True, False], ids=["old-log", "new-log"])
@pytest.mark.parametrize("method", ["prompt", "trim", "follow"])
def test_an_error_at_any_call_loses_and_doubles_nothing(
    disk: Path, method: Literal["prompt", "trim", "follow"], begun: bool
) -> None:
    """Each write, sync, rename, ... of a run fails once, and the same keeper goes on, or a new one."""
    at, tried = 0, True
    while tried:
        for same in (True, False):
            place, kernel = disk / "store", Kernel()
            kernel.boot()
            kernel.measure("x")
            store = Store(place, create=True)
            keeper = Keeper(store, kernel, boot_id="boot", registers=kernel.registers)
            if begun:
                keeper.once(method)
            kernel.measure(*BATCH)
            reached: list[str] = []
            with pytest.MonkeyPatch.context() as patched, suppress(MissingComponent):
                failing_once(patched, at, reached)
                keeper.once(method)
            tried = len(reached) > at
            kernel.measure("later")
            if not same:
                keeper.close()
                keeper = Keeper(store, kernel, boot_id="boot", registers=kernel.registers)
            what = f"call {at}: {reached[-1]}"
            assert keeper.once(method).verdict == "proven", what
            keeper.close()
            assert (place / "logs/0000/list").read_bytes() == records("boot_aggregate", "x", *BATCH, "later"), what
            assert store.numbers == (0,), what
            assert (kernel.staged_list + kernel.current_list == b"") == (method != "follow"), what
            assert b"".join(kernel.freed) in {b"", records("boot_aggregate", "x", *BATCH, "later")}, what
            shutil.rmtree(place)
        at += 1
    assert at >= 9


TROUBLES = {
    "full": (errno.ENOSPC, "pwrite"),
    "read-only": (errno.EROFS, "write"),
    "I/O error at a write": (errno.EIO, "write"),
    "I/O error at a sync": (errno.EIO, "fsync"),
}
"""What the system answers, and to what. The disk is really full; the others are put between custody and the system."""


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_service_says_what_is_wrong_and_goes_on_by_itself(
    disk: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imarium.custody.schedule._FIRST_PAUSE", 0.02)
    kernel = Kernel()
    kernel.boot()
    schedule = Schedule(interval=0.05, records=None, poll=0.01)
    config = SourceConfig("kernel", kernel, disk / "store", "boot", registers=kernel.registers, schedule=schedule)
    kinds: list[str] = []
    service = Service([config], on_event=lambda event: kinds.append(event.kind))

    def status() -> SourceStatus:
        return service.status().sources[0]

    number, name = TROUBLES[trouble]
    broken = threading.Event()
    really = getattr(os, name)

    def failing(*arguments: object) -> object:
        if broken.is_set():
            raise OSError(number, os.strerror(number))
        return really(*arguments)

    monkeypatch.setattr(os, name, failing)
    service.start()
    try:
        until(lambda: status().state == "ok" and status().records == 1)
        if trouble == "full":
            fill(disk, 0)
        else:
            broken.set()
        kernel.measure(*MANY[:200])
        until(lambda: status().errors.get("missing", 0) >= 3)
        assert status().state == "degraded"
        assert os.strerror(number) in status().reason
        assert kernel.staged_list + kernel.current_list == records(*MANY[:200])
        broken.clear()
        if trouble == "full":
            (disk / "filler").unlink()
        until(lambda: status().state == "ok" and status().freed_records == 201)
    finally:
        broken.clear()
        with suppress(FileNotFoundError):
            (disk / "filler").unlink()
        assert service.stop(PATIENCE)
    assert (disk / "store/logs/0000/list").read_bytes() == records("boot_aggregate", *MANY[:200])
    assert (kernel.staged_list, kernel.current_list) == (b"", b"")
    assert kinds.count("recovered") == 1
