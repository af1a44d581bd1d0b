"""The guardian of a watch: killed, stopped or deaf, it is missed and keeps nobody."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.watching import Stuck, mounted
from tests.waiting import PATIENCE, until

from imarium.engine import Problem, Watch
from imarium.engine.guardian import Guardian


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("guarded")) as path:
        yield path


def test_a_guardian_that_was_killed_is_missed(root: Path) -> None:
    before, problems = children(), list[Problem]()
    with Watch([root], Stuck(), problems.append):
        (guardian,) = children() - before
        os.kill(guardian, signal.SIGKILL)
        until(lambda: problems)
    assert [(problem.task, problem.uses, problem.detail.partition(":")[0]) for problem in problems] == [
        (guardian, 0, "the guardian has ended")
    ]


def test_a_guardian_that_was_stopped_does_not_keep_the_watch_from_ending(root: Path) -> None:
    before = children()
    with Watch([root], Stuck(), print):
        (guardian,) = children() - before
        os.kill(guardian, signal.SIGSTOP)
    assert guardian not in children()


def children() -> set[int]:
    """The processes that this one has started."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def test_a_guardian_that_does_not_listen_holds_up_nobody() -> None:
    with Guardian(60) as guardian:
        assert guardian.process is not None
        os.kill(guardian.process, signal.SIGSTOP)
        begun = time.monotonic()
        for _ in range(100_000):  # more than a pipe holds
            guardian.alive()
        assert time.monotonic() - begun < PATIENCE
        os.kill(guardian.process, signal.SIGCONT)
