"""The checks on the engine: mounted by a process of its own, and looked at from this one as any other would.

``python3 -m tests.conformance.engine BOOT DIR`` makes what ``kernel.py`` makes, with results in ``DIR``.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.conformance.bench import WORKPLACE, Bench
from tests.conformance.suite import run
from tests.conformance.suspended import STATES, before, during, restored

from imarium.engine import Action, Engine, EngineOptions, Event, Policy, QueueError
from imarium.formats import IMA_PCR
from imarium.fuse import mounted
from imarium.hashes import SHA256
from imarium.securityfs.tree import ImaTree

_DONE = "done\n"


def serve(place: Path, state: Path, restore: Path | None, *, flush: bool) -> None:
    """Mount an engine and do what lines of standard input say: a word and a path, answered by a line."""
    options = EngineOptions(template="ima-sig", flush_htable=flush, kernel_version=False, policy_changes=False)
    with (
        Engine(state, options=options, policy=Policy(), restore=restore) as engine,
        mounted(ImaTree(engine.queue, [SHA256], engine.policy), place, fsname="imarium-engine", allow_other=True),
    ):
        sys.stdout.write(_DONE)
        sys.stdout.flush()
        for line in sys.stdin:
            word, path = json.loads(line)
            with suppress(QueueError):
                _obey(engine, word, Path(path))
            sys.stdout.write(_DONE)
            sys.stdout.flush()


def _obey(engine: Engine, word: str, path: Path) -> None:
    if word == "suspend":
        engine.suspend_to(path)
        return
    if word == "violate":
        engine.add(Event(bytes(path), SHA256, violation=True), Action(IMA_PCR))
    engine.add(Event(bytes(path), SHA256, SHA256.digest(path.read_bytes())), Action(IMA_PCR))


class Server:
    """A process that serves an engine."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._wait()

    def measure(self, path: Path) -> None:
        self.tell("measure", path)

    def violate(self, path: Path) -> None:
        self.tell("violate", path)

    def tell(self, word: str, path: Path) -> None:
        """Have it done before this returns."""
        self._pipe(self._process.stdin).write(json.dumps([word, str(path)]) + "\n")
        self._pipe(self._process.stdin).flush()
        self._wait()

    def _wait(self) -> None:
        if self._pipe(self._process.stdout).readline() != _DONE:
            raise RuntimeError("the engine ended")

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def served(work: Path, restore: Path | None = None, *, flush: bool = False) -> Iterator[tuple[Bench, Server]]:
    """An engine, mounted while the ``with`` block runs."""
    place = work / "mount"
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.conformance.engine", "serve", str(place), str(work / "state")]
    command += [str(restore or "-"), "flush" if flush else "plain"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            server = Server(process)
            yield Bench(place, server), server
        finally:
            process.communicate()


def main(boot: str, results: Path) -> None:
    """What a boot of the kernel does."""
    WORKPLACE.mkdir(exist_ok=True)

    def save(name: str, values: Any) -> None:
        (results / f"{name}.json").write_text(json.dumps(values))

    with tempfile.TemporaryDirectory(prefix="imarium-conformance-") as directory:
        work = Path(directory)
        with served(work, flush=boot == "flush") as (bench, _):
            values, seconds = run(bench)
            save(boot, values)
            save(f"{boot}-seconds", seconds)
        if boot == "plain":
            handed: Path | None = None
            for number, state in enumerate(STATES):
                with served(work, handed) as (bench, server):
                    if number:
                        save(f"restored-{STATES[number - 1]}", restored(bench))
                    seen = before(bench, state)
                    handed = work / f"handed-{number}"
                    server.tell("suspend", handed)
                    save(f"suspended-{state}", seen | during(bench))
            with served(work, handed) as (bench, _):
                save(f"restored-{STATES[-1]}", restored(bench))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _, _, place_, state_, restore_, mode_ = sys.argv
        serve(Path(place_), Path(state_), None if restore_ == "-" else Path(restore_), flush=mode_ == "flush")
    else:
        main(sys.argv[1], Path(sys.argv[2]))
