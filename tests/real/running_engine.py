"""An engine as a program: started as a user starts it, mounted, asked, and ended by its id."""

import ctypes.util
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

LIMIT = 180


def imarium(*arguments: str | Path, status: int = 0) -> bytes:
    """Run a command; its standard output."""
    command = [sys.executable, "-m", "imarium", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=LIMIT)
    assert done.returncode == status, (done.returncode, done.stdout.decode(), done.stderr.decode())
    return done.stdout


@dataclass
class Running:
    """A running engine: where it is mounted, its directory, and what it has said."""

    root: Path
    state: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def binary(self) -> Path:
        return self.root / "binary_runtime_measurements_sha1"

    @property
    def ascii(self) -> Path:
        return self.root / "ascii_runtime_measurements_sha1"

    def names(self) -> list[str]:
        return [line.split(" ")[4] for line in self.ascii.read_text().splitlines()]

    def status(self) -> dict:
        return json.loads(imarium("engine", "--status", "--state", self.state, "--json"))

    def suspend_to(self, path: Path, *options: str) -> dict:
        return json.loads(imarium("engine", "--suspend-to", path, "--state", self.state, "--json", *options))

    def write(self, name: str, text: bytes) -> None:
        descriptor = os.open(self.root / name, os.O_WRONLY)
        try:
            assert os.write(descriptor, text) == len(text)
        finally:
            os.close(descriptor)

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()


def start_engine(place: Path, *arguments: str | Path) -> Running:
    """Start it with these arguments, and wait until it has mounted."""
    assert os.geteuid() == 0, "the engine is tested as root"
    assert Path("/dev/fuse").exists(), "there is no /dev/fuse: modprobe fuse"
    assert ctypes.util.find_library("fuse3") or ctypes.util.find_library("fuse"), "FUSE is missing: apt install fuse3"
    assert importlib.util.find_spec("mfusepy"), "mfusepy is missing: pip install 'imarium[fuse]'"
    root, state = place / "ima", place / "state"
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "imarium", "engine", "--mount", root, "--state", state, *arguments]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    running = Running(root, state, process)
    assert process.stderr is not None
    for line in process.stderr:
        running.said.append(line)
        if line.startswith("mounted"):
            Thread(target=lambda: running.said.extend(process.stderr or ()), daemon=True).start()
            return running
    process.wait(LIMIT)
    raise AssertionError("".join(running.said))


def copied_programs(place: Path, *names: str) -> list[Path]:
    """Programs of this machine in a place of their own."""
    place.mkdir(exist_ok=True)
    copies = []
    for name in names:
        found = shutil.which(name)
        assert found is not None, f"{name} is missing"
        copies.append(Path(shutil.copy(found, place / name)))
    return copies
