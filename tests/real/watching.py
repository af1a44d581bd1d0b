"""File systems, programs and watches for the tests of watching, and processes that use files beside them."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE

from imarium.engine import Event, FileMeasurer, PolicyFile, Problem, Watch, WatchOptions, builtin_policy
from imarium.engine.policy import Action
from imarium.hashes import SHA256

LOADER = r"""
#include <dlfcn.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!dlopen(argv[i], RTLD_NOW)) return 2;
    return 0;
}
"""


@contextmanager
def mounted(place: Path, megabytes: int = 64) -> Iterator[Path]:
    """A file system of one's own, ext4 on a loop device."""
    assert os.geteuid() == 0, "watching files takes root: run these tests as root"
    assert shutil.which("mkfs.ext4"), "mkfs.ext4 is missing: apt install e2fsprogs"
    image, root = place / "image", place / "root"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(root)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)
        image.unlink()


def patient(**more: Any) -> WatchOptions:
    """Options for a machine that does much else: what is not stuck is in time."""
    return replace(WatchOptions(deadline=2 * PATIENCE, patience=4 * PATIENCE), **more)


@dataclass
class Recorder:
    """What a measurer records, and what problems a watch tells of."""

    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    policy: PolicyFile = field(default_factory=lambda: PolicyFile(builtin_policy(["tcb"])))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, event: Event, _action: Action) -> bool:
        with self.lock:
            key = (event.name, event.digest)
            new = event.violation or key not in [(one.name, one.digest) for one in self.events if not one.violation]
            if new:
                self.events.append(event)
            return new

    def measurer(self) -> FileMeasurer:
        return FileMeasurer(self.policy, self.add, hash_algorithm=SHA256, template="ima-ng", byte_order="little")

    def watch(self, root: Path, options: WatchOptions | None = None) -> Watch:
        return Watch([root], self.measurer(), self.problems.append, options=options or patient())

    def of(self, path: Path) -> list[str]:
        """The records of a file: ``content`` or ``violation``."""
        name = os.fsencode(path)
        return ["violation" if event.violation else "content" for event in self.events if event.name == name]


class Stuck:
    """A measurer that hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        del descriptor, task, executes
        self.entered.release()
        self.free.wait(10 * PATIENCE)

    def closed(self, descriptor: int) -> None:
        del descriptor


def program(root: Path, name: str, more: bytes = b"") -> Path:
    """A program that does nothing."""
    path = root / name
    path.write_bytes(Path("/bin/true").read_bytes() + more)
    path.chmod(0o755)
    return path


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, which runs Python code."""
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def holding(path: Path, flags: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a file open."""
    process = python(
        "import os,sys; os.open(sys.argv[1],int(sys.argv[2])); print('open',flush=True); sys.stdin.read()", path, flags
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.communicate(timeout=PATIENCE)


def read_by_another(path: Path) -> float:
    """Open a file for reading in another process; how many seconds that took inside it."""
    code = (
        "import os,sys,time; t=time.monotonic(); os.close(os.open(sys.argv[1],os.O_RDONLY)); print(time.monotonic()-t)"
    )
    out, _ = python(code, path).communicate(timeout=PATIENCE)
    return float(out)


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether a process waits for a watch to let it open a file."""
    return waits_in(process, "fanotify")


def waits_in(process: subprocess.Popen[str], *names: str) -> bool:
    """Whether a process waits in a function of the kernel whose name begins so."""
    return Path(f"/proc/{process.pid}/wchan").read_text().startswith(names)


RUNNER = """
import random, subprocess, sys
numbers = list(range(500))
random.Random(int(sys.argv[2])).shuffle(numbers)
for number in numbers:
    subprocess.run([f"{sys.argv[1]}/program{number:03}", f"{sys.argv[1]}/library{number:03}"], check=True)
print("done")
"""


def program_tree(root: Path, build: Path) -> Path:
    """500 programs, each of which loads one of 500 libraries; no two files have the same content."""
    compiler = shutil.which("gcc")
    assert compiler is not None, "gcc is missing: apt install gcc"
    (build / "loader.c").write_text(LOADER)
    (build / "library.c").write_text("int number;\n")
    subprocess.run([compiler, "-o", "loader", "loader.c"], cwd=build, check=True)
    subprocess.run([compiler, "-shared", "-o", "library.so", "library.c"], cwd=build, check=True)
    loader, library = (build / "loader").read_bytes(), (build / "library.so").read_bytes()
    tree = root / "tree"
    tree.mkdir()
    for number in range(500):
        for name, content in (("program", loader), ("library", library)):
            path = tree / f"{name}{number:03}"
            path.write_bytes(content + b"%d" % number)
            path.chmod(0o755)
    return tree


def run_tree(tree: Path) -> None:
    """Run all programs of a tree from four processes at once, in each in another order."""
    runners = [python(RUNNER, tree, seed) for seed in range(4)]
    assert [runner.communicate(timeout=300)[0] for runner in runners] == ["done\n"] * 4
