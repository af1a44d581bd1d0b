"""Watching a file system that fails to close files: whoever waits goes on, and nothing is used up."""

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.watching import Recorder, patient, python
from tests.waiting import PATIENCE, until

from imarium.fuse import unmount

SERVER = """
import errno, stat, sys
import mfusepy

class Files(mfusepy.Operations):
    use_ns = True
    def getattr(self, path, number=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": 7}
    def open(self, path, flags):
        return 1
    def read(self, path, size, offset, number):
        return b"content"[offset : offset + size]
    def flush(self, path, number):
        raise mfusepy.FuseOSError(errno.EIO)

mfusepy.FUSE(Files(), sys.argv[1], foreground=True)
"""


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files cannot be closed without an error."""
    assert importlib.util.find_spec("mfusepy"), "mfusepy is missing: pip install 'imarium[fuse]'"
    place = tmp_path / "failing"
    place.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(place)])
    until(lambda: place.is_mount() or process.poll() is not None)
    assert process.poll() is None
    yield place
    unmount(place)
    assert process.wait(PATIENCE) == 0


READER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
try:
    os.close(descriptor)
except OSError as error:
    print(error.errno)
"""


def test_a_file_that_fails_to_close_keeps_nobody(failing: Path) -> None:
    recorder = Recorder()
    paths = [failing / f"file{number}" for number in range(6)]
    with recorder.watch(failing, patient(waiting=2, workers=1)):
        for path in paths:
            error, _ = python(READER, path).communicate(timeout=PATIENCE)
            assert int(error) == errno.EIO
    assert recorder.problems == []
    assert [event.name for event in recorder.events] == list(map(os.fsencode, paths))
