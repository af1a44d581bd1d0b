"""What happens inside the guest in the test of power cuts: ``power_session.py LIFE cut|end``, results in /shared/LIFE.

The store is on the disk. Programs run and are measured all the while, and the service drains. Before it asks the kernel
to delete anything, the bytes go to the host, past the store, and so does word that the kernel has done it. Whatever the
power cut leaves, the host then knows what the kernel no longer had.
"""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path

from imarium.chain import RegisterValues
from imarium.custody import Keeper, Method, Store
from imarium.formats.records import ListLayout, read_records
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256
from imarium.securityfs import Held, ImaDirectory

SHARED = Path("/shared") / sys.argv[1]
DISK = Path("/mnt")
STORE = DISK / "store"
PROGRAMS = Path("/opt/imarium-test")
PAUSE = 0.05
METHODS: tuple[Method, ...] = ("prompt", "trim")


class Telling:
    """The kernel's lists, held; each deletion is told to the host first."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.staged = held.staged
        self.current = held.current
        self.stage = held.stage

    def delete_staged(self) -> None:
        with told(b"".join(self._held.staged())):
            self._held.delete_staged()

    def delete(self, records: int) -> None:
        data = b"".join(self._held.current())
        oldest = list(read_records([data], ListLayout()))[:records]
        with told(data[: oldest[-1].offset + oldest[-1].size]):
            self._held.delete(records)


class TellingDirectory(ImaDirectory):
    """The kernel's files, held by a :class:`Telling`."""

    @contextmanager
    def hold(self, *_arguments: object) -> Iterator[Telling]:  # type: ignore[override]
        with super().hold() as held:
            yield Telling(held)


_serial = count()


@contextmanager
def told(data: bytes) -> Iterator[None]:
    """Tell the host what is about to be deleted, and then that it is."""
    number = next(_serial)
    (SHARED / f"{number:04}.asked").write_bytes(data)
    yield
    (SHARED / f"{number:04}.deleted").touch()


def run_programs(stop: threading.Event) -> None:
    """Run programs that were never run before, so that they are measured."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    for number in count():
        path = PROGRAMS / f"program-{number:05}"
        shutil.copy("/run/guest/busybox", path)
        with path.open("ab") as file:
            file.write(path.name.encode())
        subprocess.run([path, "true"], check=True)
        if stop.wait(PAUSE):
            return


def save_logs() -> None:
    """The logs as they are, for the host."""
    for log in (STORE / "logs").iterdir():
        shutil.copytree(log, SHARED / "logs" / log.name)


def registers(wanted: Collection[PcrIndex]) -> RegisterValues:
    """The TPM's registers as the kernel shows them. What reads them otherwise takes seconds to load in a guest."""
    root = Path("/sys/class/tpm/tpm0")
    banks = (SHA1, SHA256)
    return {
        n: {bank: bytes.fromhex((root / f"pcr-{bank.name}" / str(n)).read_text()) for bank in banks} for n in wanted
    }


def main() -> None:
    SHARED.mkdir()
    subprocess.run(["mount", "/dev/vda", DISK], check=True)
    stop = threading.Event()
    source = TellingDirectory(patience=10.0)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    keeper = Keeper(Store(STORE, create=True), source, boot_id=boot_id, registers=registers)
    first = keeper.once("prompt").to_document()
    save_logs()
    (SHARED / "first.json").write_text(json.dumps(first))
    if sys.argv[2] == "end":
        return
    programs = threading.Thread(target=run_programs, args=[stop], daemon=True)
    programs.start()
    print("drains begin", flush=True)
    for method in cycle(METHODS):
        keeper.once(method)


if __name__ == "__main__":
    main()
