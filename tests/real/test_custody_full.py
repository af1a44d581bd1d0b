"""Custody on a disk that is full: nothing is deleted, the error says so, and the next run goes on."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imarium.custody import Event, Keeper, KeepResult, Store
from imarium.errors import MissingComponent

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.unit.custody_kernel import Kernel, records

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
    return Keeper(Store(disk / "store", create=True), kernel, boot_id="boot", registers=kernel.registers).once()


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
    assert {path.name for path in (disk / "store/logs/0000").iterdir()} == {"list", "journal", "meta.json"}
    assert [path.name for path in (disk / "store/logs").iterdir()] == ["0000"]
