"""Measure what a watch adds to opening and executing a file: the first time, and when its content is known.

    bench/watch.py [FILES]

FILES, 200 unless told, are opened and executed one after the other by another process, on a file system of its own:
with nobody watching, with an engine that meets them for the first time, and with the same engine again. The engine has
the policy ``tcb`` and extends nothing: what a root of trust adds to the first time is measured by bench/engine.py.
Takes root. Ends with status 1 over a limit.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imarium.engine import Engine, builtin_policy

SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20}
SLOWEST_OPEN = 0.002
SLOWEST_EXECUTION = 0.005
"""Most that opening or executing what is known may take longer, in seconds: the median."""

USER = """
import json, os, sys, time

def timed(act, paths):
    taken = []
    for path in paths:
        begun = time.perf_counter()
        act(path)
        taken.append(time.perf_counter() - begun)
    return taken

def execute(path):
    os.waitpid(os.posix_spawn(path, [path], {}), 0)

for line in sys.stdin:
    kind, paths = json.loads(line)
    act = execute if kind == "execute" else lambda path: os.close(os.open(path, os.O_RDONLY))
    print(json.dumps(timed(act, paths)), flush=True)
"""


@contextmanager
def file_system(place: Path) -> Iterator[Path]:
    """An ext4 file system on a loop device."""
    image, root = place / "image", place / "root"
    with image.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(root)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)


class User:
    """The process that uses files."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", USER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def times(self, kind: str, paths: list[Path]) -> list[float]:
        """Seconds that each use takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps((kind, list(map(str, paths)))) + "\n")
        self._process.stdin.flush()
        return [float(taken) for taken in json.loads(self._process.stdout.readline())]

    def end(self) -> None:
        self._process.communicate(timeout=20)


def made(root: Path, kind: str, size: int, count: int) -> list[Path]:
    """Programs or other files, each of another content."""
    paths = []
    program = Path("/bin/true").read_bytes() if kind == "execute" else b""
    for number in range(count):
        path = root / f"{kind}{size}-{number}"
        path.write_bytes(program + number.to_bytes(8, "big") + os.urandom(max(0, size - len(program))))
        path.chmod(0o755)
        paths.append(path)
    return paths


@dataclass(frozen=True)
class Row:
    """Seconds that each use of a kind and size takes: with nobody watching, the first time, and known."""

    kind: str
    label: str
    without: list[float]
    first: list[float]
    known: list[float]


def measured(root: Path, files: int) -> list[Row]:
    """All kinds and sizes, in the same run."""
    user = User()
    cases = [
        (kind, label, made(root, kind, size, files)) for kind in ("open", "execute") for label, size in SIZES.items()
    ]
    os.sync()
    for kind, _, paths in cases:
        user.times(kind, paths)  # into the page cache
    without = [user.times(kind, paths) for kind, _, paths in cases]
    with (
        tempfile.TemporaryDirectory() as directory,
        Engine(Path(directory), policy=builtin_policy(["tcb"])) as engine,
        engine.watch([root]),
    ):
        first = [user.times(kind, paths) for kind, _, paths in cases]
        known = [user.times(kind, paths) for kind, _, paths in cases]
        recorded = engine.status().counts.full
    user.end()
    assert recorded >= sum(len(paths) for _, _, paths in cases), "not everything was measured"
    return [
        Row(kind, label, *times)
        for (kind, label, _), times in zip(cases, zip(without, first, known, strict=True), strict=True)
    ]


def main() -> int:
    """Print a table; the exit status."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as place, file_system(Path(place)) as root:
        rows = measured(root, files)
    over = False
    heads = ("nobody", "first", "known", "first adds", "known adds")
    print(f"{f'µs, {files} of':17} " + " ".join(f"{head:>13}" for head in heads))
    for row in rows:
        without, first, known = map(statistics.median, (row.without, row.first, row.known))
        over |= known - without > (SLOWEST_OPEN if row.kind == "open" else SLOWEST_EXECUTION)
        numbers = (without, first, known, first - without, known - without)
        print(f"{row.kind:8} {row.label:>8} " + " ".join(f"{number * 1e6:13.0f}" for number in numbers))
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
