"""The checks on the engine: a command that runs, is mounted, and watches the file system that is read.

``python3 -m tests.conformance.engine BOOT DIR`` makes what ``kernel.py`` makes, with results in ``DIR``.
"""

import fcntl
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance.bench import WORKPLACE, Bench
from tests.conformance.causes import POLICY, Reading
from tests.conformance.suite import run
from tests.conformance.suspended import STATES, before, during, restored
from tests.real.running_engine import Running, start_engine

_OPTIONS = ("--rot", "none", "--template", "ima-sig", "--watch", str(WORKPLACE))


@contextmanager
def workplace() -> Iterator[None]:
    """The place of the checks' files, a file system of its own, for one run at a time."""
    WORKPLACE.mkdir(exist_ok=True)
    with (WORKPLACE.parent / f"{WORKPLACE.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["mount", "-t", "tmpfs", "imarium-conformance", str(WORKPLACE)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(WORKPLACE)], check=True)


@contextmanager
def engine(work: Path, *options: str) -> Iterator[tuple[Bench, Running]]:
    """An engine with the policy of the checks, while the ``with`` block runs."""
    policy = work / "policy"
    policy.write_text(POLICY)
    running = start_engine(work, *_OPTIONS, "--policy", policy, *options)
    try:
        yield Bench(running.root, Reading()), running
    finally:
        if running.end():
            raise RuntimeError("".join(running.said))


def main(boot: str, results: Path) -> None:
    """What a boot of the kernel does, or a chain of boots."""

    def save(name: str, values: Any) -> None:
        (results / f"{name}.json").write_text(json.dumps(values))

    with workplace(), tempfile.TemporaryDirectory(prefix="imarium-conformance-") as directory:
        work = Path(directory)
        with engine(work, *(["--flush-htable"] if boot == "flush" else [])) as (bench, _):
            values, seconds = run(bench)
        save(boot, values)
        save(f"{boot}-seconds", seconds)
        if boot == "plain":
            _lives(work, save)


def _lives(work: Path, save: Any) -> None:
    """Suspend in each state of the lists, and go on from that."""
    options: tuple[str, ...] = ()
    for number, state in enumerate(STATES):
        with engine(work, *options) as (bench, running):
            if number:
                save(f"restored-{STATES[number - 1]}", restored(bench))
            seen = before(bench, state)
            handed = work / f"handed-{number}"
            running.suspend_to(handed, "--stay")
            save(f"suspended-{state}", seen | during(bench))
        options = ("--restore", str(handed))
    with engine(work, *options) as (bench, _):
        save(f"restored-{STATES[-1]}", restored(bench))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
