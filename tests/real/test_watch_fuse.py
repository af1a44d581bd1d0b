"""Watching file systems that fail to close files, or never open one: everybody else goes on, nothing is used up."""

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.real.watching import Recorder, mounted, patient, python, read_by_another, waits
from tests.waiting import PATIENCE, until

from imarium.fuse import unmount

SERVER = """
import errno, stat, sys, time
import mfusepy

class Files(mfusepy.Operations):
    use_ns = True
    def getattr(self, path, number=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": 7}
    def open(self, path, flags):
        while path == "/never":
            time.sleep(1)
        return 1
    def read(self, path, size, offset, number):
        return b"content"[offset : offset + size]
    def flush(self, path, number):
        raise mfusepy.FuseOSError(errno.EIO)

mfusepy.FUSE(Files(), sys.argv[1], foreground=True)
"""


@dataclass(frozen=True)
class Served:
    """A file system that a process serves."""

    place: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A file system whose files cannot be closed without an error, and of which ``never`` is not opened at all."""
    assert importlib.util.find_spec("mfusepy"), "mfusepy is missing: pip install 'imarium[fuse]'"
    place = tmp_path / "served"
    place.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(place)])
    until(lambda: place.is_mount() or process.poll() is not None)
    assert process.poll() is None
    yield Served(place, process)
    unmount(place)  # whoever serves has ended then, or ends
    process.wait(PATIENCE)


READER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
try:
    os.close(descriptor)
except OSError as error:
    print(error.errno)
"""


def test_a_file_that_fails_to_close_keeps_nobody(served: Served) -> None:
    recorder = Recorder()
    paths = [served.place / f"file{number}" for number in range(6)]
    with recorder.watch(served.place, patient(waiting=2, workers=1)):
        for path in paths:
            error, _ = python(READER, path).communicate(timeout=PATIENCE)
            assert int(error) == errno.EIO
    assert recorder.problems == []
    assert [event.name for event in recorder.events] == list(map(os.fsencode, paths))


ENGINE = """
import sys
from pathlib import Path
from imarium.engine import Watch, WatchOptions

class Quick:
    def opened(self, descriptor, task, *, executes):
        pass
    def closed(self, descriptor):
        pass

def tell(problem):
    print(problem.kind.value, problem.name.decode(), flush=True)

with Watch([Path(path) for path in sys.argv[1:]], Quick(), tell, options=WatchOptions(deadline=1)):
    print("watching", flush=True)
    sys.stdin.readline()
print("stopped", flush=True)
"""


def test_a_file_that_is_never_opened_keeps_nobody_elsewhere(served: Served, tmp_path: Path) -> None:
    """The kernel opens it once more for the engine, and that never ends: with it, the events of this file system."""
    with mounted(tmp_path, 16) as other:
        (other / "file").write_text("content")
        command = [sys.executable, "-c", ENGINE, str(served.place), str(other)]
        engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert engine.stdout is not None
        assert engine.stdout.readline() == "watching\n"
        stuck = [python(READER, served.place / "never")]
        try:
            assert engine.stdout.readline() == f"overdue {served.place}\n"
            stuck.append(python(READER, served.place / "never"))
            until(lambda: waits(stuck[1]))
            behind = python(READER, served.place / "behind")
            until(lambda: waits(behind))
            read_by_another(other / "file")
            print(file=engine.stdin, flush=True)
            assert engine.stdout.readline() == "stopped\n"
            for process in (behind, python(READER, served.place / "after")):
                assert int(process.communicate(timeout=PATIENCE)[0]) == errno.EIO
            read_by_another(other / "file")
        finally:
            served.process.kill()  # which lets everybody go
            engine.kill()
            for process in (engine, *stuck):
                process.communicate(timeout=PATIENCE)
