"""A kernel's measurement lists in files, behind the protocol of the securityfs client, for several processes at once.

All records of one life of the registers stand in one file that only grows. A number in a second says up to which byte
they are there at all, two in a third up to which they are deleted and staged. These files are replaced, so a process
that is killed leaves a command done or not done, as a kernel does, and whoever reads beside one that measures finds
records whole. One measures at a time. A lock between processes is the kernel's: readers, or one writer.
"""

import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.unit.custody_kernel import LAYOUT, records

from imarium.chain import ChainState, RegisterValues, replay
from imarium.formats.records import RecordFramer, frame_size
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256
from imarium.securityfs import (
    AlreadyStaged,
    DeleteRefused,
    ListBusy,
    MeasuringSuspended,
    NothingToDelete,
    NothingToStage,
)

BLOCK = 1 << 18


@dataclass(frozen=True)
class Marks:
    """Up to which byte records are deleted, and staged; and what the kernel was told not to do."""

    freed: int = 0
    staged: int = 0
    suspended: bool = False
    flush_htable: bool = False


class FileKernel:
    """Lists and registers in ``directory``. ``patience`` is how long an open waits for others, in seconds."""

    has_staging = True

    def __init__(self, directory: Path, *, patience: float = 0.0) -> None:
        self.directory = directory
        self.path = directory / "records"
        self._patience = patience
        self._state, self._replayed = ChainState(), 0
        if not directory.exists():
            directory.mkdir()
            (directory / "lock").touch()
            self.path.touch()
            self._replace("end", "0")
            self.mark(Marks())

    @property
    def marks(self) -> Marks:
        return Marks(**json.loads((self.directory / "marks").read_text()))

    @property
    def end(self) -> int:
        """Up to which byte there are records."""
        return int((self.directory / "end").read_text())

    def mark(self, marks: Marks) -> None:
        self._replace("marks", json.dumps(marks.__dict__))

    def change(self, **changes: object) -> None:
        self.mark(Marks(**(self.marks.__dict__ | changes)))

    def measure(self, *names: str) -> None:
        self.add(records(*names))

    def add(self, data: bytes) -> None:
        """Append records, all of them or none."""
        end = self.end
        with self.path.open("r+b") as file:
            file.seek(end)
            file.write(data)
        self._replace("end", str(end + len(data)))

    def boot(self) -> None:
        """Begin a new life: registers reset, lists empty but for the boot aggregate."""
        self._replace("end", "0")
        self.mark(Marks())
        self._state, self._replayed = ChainState(), 0
        self.measure("boot_aggregate")

    def kexec(self) -> None:
        """Go on in a new kernel, which adds its boot aggregate to what it was given."""
        marks = self.marks
        self.change(staged=marks.freed, suspended=False)
        self.measure("boot_aggregate")

    def all(self) -> bytes:
        """Every record of this life, deleted ones too."""
        return self.path.read_bytes()[: self.end]

    def held(self) -> bytes:
        """What the kernel still has."""
        return self.all()[self.marks.freed :]

    def registers(self, wanted: Collection[PcrIndex]) -> RegisterValues:
        end = self.end
        blocks = self._blocks(self._replayed, end)
        self._state = replay(blocks, LAYOUT, start=self._state if self._replayed else None).state
        self._replayed = end
        return {p: {bank: self._state.value(p, bank) for bank in (SHA1, SHA256)} for p in wanted if p == IMA_PCR}

    def can_delete(self) -> bool:
        return True

    def staged(self) -> Iterator[bytes]:
        marks = self.marks
        return self._blocks(marks.freed, marks.staged)

    def current(self) -> Iterator[bytes]:
        marks = self.marks
        return self._blocks(max(marks.freed, marks.staged), self.end)

    def count(self) -> int:
        framer = RecordFramer(LAYOUT)
        for block in self.current():
            framer.feed(block)
        return framer.number

    def stage(self) -> None:
        marks, end = self.marks, self.end
        if marks.suspended:
            raise MeasuringSuspended("suspended")
        if marks.staged > marks.freed:
            raise AlreadyStaged("staged")
        if marks.freed == end:
            raise NothingToStage("empty")
        self.change(staged=end)

    def delete_staged(self) -> None:
        marks = self.marks
        if marks.staged <= marks.freed:
            raise NothingToDelete("empty")
        if marks.suspended:
            raise MeasuringSuspended("suspended")
        self.change(freed=marks.staged)

    def delete(self, records: int) -> None:
        marks = self.marks
        if marks.flush_htable:
            raise DeleteRefused("by number")
        framer, size, left = RecordFramer(LAYOUT), 0, records
        for block in self.current():
            for frame in framer.feed(block):
                if left:
                    size += frame_size(frame)
                    left -= 1
        if left:
            raise NothingToDelete("fewer")
        if marks.suspended:
            raise MeasuringSuspended("suspended")
        assert marks.staged <= marks.freed, "a deletion by number with records staged"
        self.change(freed=marks.freed + size, staged=marks.freed + size)

    @contextmanager
    def hold(self) -> Iterator["FileKernel"]:
        with self._locked(fcntl.LOCK_EX):
            yield self

    @contextmanager
    def snapshot(self) -> Iterator["FileKernel"]:
        with self._locked(fcntl.LOCK_SH):
            yield self

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        deadline = time.monotonic() + self._patience
        with (self.directory / "lock").open("rb") as file:
            while True:
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise ListBusy("in use") from None
                    time.sleep(0.001)
            yield

    def _replace(self, name: str, content: str) -> None:
        beside = self.directory / f"{name}.{os.getpid()}"
        beside.write_text(content)
        beside.replace(self.directory / name)

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end and (block := file.read(min(BLOCK, end - start))):
                start += len(block)
                yield block
