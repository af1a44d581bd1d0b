"""Watching a file system that fails to close files: whoever waits goes on, and nothing is used up."""

import errno
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.watching import Recorder, patient, python

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
    deadline = time.monotonic() + 60
    while not place.is_mount():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield place
    unmount(place)
    assert process.wait(60) == 0


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
            error, _ = python(READER, path).communicate(timeout=60)
            assert int(error) == errno.EIO
    assert recorder.problems == []
    assert [event.name for event in recorder.events] == list(map(os.fsencode, paths))
