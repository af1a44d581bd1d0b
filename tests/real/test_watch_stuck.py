"""Watching where measuring hangs, fails or is killed: nobody who uses a file is stuck."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.real.watching import Stuck, mounted, patient, program, python, read_by_another, waits
from tests.waiting import PATIENCE, until

from imarium.engine import Problem, ProblemKind, Watch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("watched")) as path:
        yield path


class Failing(Stuck):
    """A measurer that cannot."""

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        del descriptor, task, executes
        raise OSError(5, "Input/output error")


def test_the_own_process_is_let_go_at_once(root: Path) -> None:
    path = root / "own"
    path.write_text("own")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=patient()):
        threads = [threading.Thread(target=path.read_text) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert path.read_text() == "own"
        assert not stuck.entered.acquire(blocking=False)
    assert problems == []


def test_exempt_processes_are_let_go_at_once(root: Path) -> None:
    path = root / "exempt"
    path.write_text("exempt")
    code = "import sys; sys.stdin.readline(); print(open(sys.argv[1]).read(),flush=True)"
    process = python(code, path)
    stuck = Stuck()
    with Watch([root], stuck, print, options=patient(exempt=(process.pid,))):
        out, _ = process.communicate("\n", timeout=PATIENCE)
    assert out == "exempt\n"
    assert not stuck.entered.acquire(blocking=False)


def test_a_deadline_lets_go_what_hangs_and_says_so(root: Path) -> None:
    path = root / "slow"
    path.write_text("slow")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=patient(deadline=0.5, workers=2)):
        took = [read_by_another(path) for _ in range(4)]
        assert all(0.3 < seconds < PATIENCE / 2 for seconds in took)
        until(lambda: len(problems) == 4)
        stuck.free.set()
    assert {(problem.kind, problem.name) for problem in problems} == {(ProblemKind.OVERDUE, os.fsencode(path))}


def test_too_many_are_let_go_at_once_and_said_so(root: Path) -> None:
    path = root / "many"
    path.write_text("many")
    stuck, problems = Stuck(), list[Problem]()
    options = patient(workers=2, waiting=3)
    code = "import sys; open(sys.argv[1]); print('done',flush=True)"
    with Watch([root], stuck, problems.append, options=options):
        waiting = [python(code, path) for _ in range(3)]
        until(lambda: all(map(waits, waiting)))
        read_by_another(path)
        until(lambda: len(problems) == 1)
        stuck.free.set()
        assert [process.communicate(timeout=PATIENCE)[0] for process in waiting] == ["done\n"] * 3
    assert problems[0].kind is ProblemKind.OVERLOADED


def test_when_all_that_measures_hangs_nobody_waits_for_it(root: Path) -> None:
    """Hanging threads are replaced, four times over; after that who comes goes on at once, until one is free."""
    path = root / "hanging"
    path.write_text("hanging")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=patient(deadline=0.5, workers=1)):
        assert all(read_by_another(path) > 0.3 for _ in range(4))
        until(lambda: len(problems) == 4)
        read_by_another(path)
        until(lambda: len(problems) == 5)
        kinds = [problem.kind for problem in problems]
        while stuck.entered.acquire(blocking=False):
            pass
        stuck.free.set()

        def measured() -> bool:
            read_by_another(path)
            return stuck.entered.acquire(blocking=False)

        until(measured)
    assert kinds == [ProblemKind.OVERDUE] * 4 + [ProblemKind.OVERLOADED]
    assert problems[4].detail == "measuring hangs"


def test_where_no_more_threads_can_be_started_nobody_waits_for_those_that_hang(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_arguments: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    path = root / "threads"
    path.write_text("threads")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=patient(deadline=0.5, workers=1)):
        monkeypatch.setattr("imarium.engine.watch._thread", none_left)
        for number in (1, 2):
            read_by_another(path)
            until(lambda number=number: len(problems) == number)  # type: ignore[misc]
        stuck.free.set()
    assert [problem.kind for problem in problems] == [ProblemKind.OVERDUE, ProblemKind.OVERLOADED]


def test_a_failure_lets_go_and_is_told(root: Path) -> None:
    path = root / "failing"
    path.write_text("failing")
    problems: list[Problem] = []
    with Watch([root], Failing(), problems.append, options=patient()):
        read_by_another(path)
        until(lambda: bool(problems))
    assert problems[0].kind is ProblemKind.FAILED
    assert problems[0].name == os.fsencode(path)
    assert "Input/output error" in problems[0].detail


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_measurer_that_breaks_is_replaced(root: Path) -> None:
    class Broken(Stuck):
        def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
            del descriptor, task, executes
            raise AssertionError

    path = root / "broken"
    path.write_text("broken")
    problems: list[Problem] = []
    with Watch([root], Broken(), problems.append, options=patient(workers=1)):
        for _ in range(3):
            read_by_another(path)
    assert [(problem.kind, problem.detail) for problem in problems] == [(ProblemKind.FAILED, "broke off")] * 3


def test_whoever_is_told_may_be_slow(root: Path) -> None:
    """Telling of problems happens apart: who waits does not wait for that."""
    path = root / "told"
    path.write_text("told")
    free = threading.Event()
    stuck = Stuck()

    def tell(_problem: Problem) -> None:
        free.wait(10 * PATIENCE)

    with Watch([root], stuck, tell, options=patient(deadline=0.3)):
        for _ in range(3):
            read_by_another(path)
        free.set()
        stuck.free.set()


def test_problems_that_come_faster_than_they_are_told_of_are_counted(root: Path) -> None:
    path = root / "counted"
    path.write_text("counted")
    free, problems = threading.Event(), list[Problem]()

    def tell(problem: Problem) -> None:
        free.wait(60)
        problems.append(problem)

    code = "import sys\nfor _ in range(1500): open(sys.argv[1]).close()\nprint('done')"
    with Watch([root], Failing(), tell):
        assert python(code, path).communicate(timeout=60)[0] == "done\n"
        free.set()
    assert len(problems) < 1100
    assert sum(problem.uses for problem in problems) == 1500


def test_ending_lets_everybody_go(root: Path) -> None:
    path = root / "ending"
    path.write_text("ending")
    stuck = Stuck()
    with Watch([root], stuck, print, options=patient()):
        waiting = [python("import sys; open(sys.argv[1]); print('done',flush=True)", path) for _ in range(5)]
        until(lambda: all(map(waits, waiting)))
        stuck.free.set()
    assert [process.communicate(timeout=PATIENCE)[0] for process in waiting] == ["done\n"] * 5


def test_files_that_are_not_watched_are_no_problem_when_it_ends(root: Path) -> None:
    inside, path = root / "inside", root / "outside"
    inside.mkdir()
    path.write_text("outside")
    stuck, problems = Stuck(), list[Problem]()
    process = python("import sys\nwhile True: open(sys.argv[1]).close()", path)
    try:
        for _ in range(20):
            with Watch([inside], stuck, problems.append, options=patient(workers=1)):
                time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert problems == []
    assert not stuck.entered.acquire(blocking=False)


def test_what_is_measured_too_late_or_fails_while_it_ends_is_told(root: Path) -> None:
    class FailsLate(Stuck):
        def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
            super().opened(descriptor, task, executes=executes)
            raise OSError(5, "Input/output error")

    path = root / "late"
    path.write_text("late")

    def once_all_are_let_go() -> None:
        for process in waiting:
            process.wait()
        fails.free.set()

    fails, problems = FailsLate(), list[Problem]()
    with Watch([root], fails, problems.append, options=patient(workers=1)):
        waiting = [python("import sys; open(sys.argv[1]); print('done',flush=True)", path) for _ in range(3)]
        until(lambda: all(map(waits, waiting)))
        late = threading.Thread(target=once_all_are_let_go)
        late.start()
    late.join()
    assert [process.communicate(timeout=PATIENCE)[0] for process in waiting] == ["done\n"] * 3
    assert sorted(problem.kind.value for problem in problems) == ["failed"] * 3 + ["overdue"] * 3


def test_taking_events_is_not_overdue_where_there_are_none(root: Path) -> None:
    """A thread that waits for events, on a machine that does much else, is not one that a file system keeps."""
    problems, end = list[Problem](), time.monotonic() + 3
    with Watch([root], Failing(), problems.append, options=patient(deadline=0.01)):
        busy = [threading.Thread(target=spin_until, args=(end,)) for _ in range(3)]
        for thread in busy:
            thread.start()
        for thread in busy:
            thread.join(PATIENCE)
    assert problems == []


def spin_until(end: float) -> None:
    while time.monotonic() < end:
        sum(range(10_000))


ENGINE = """
import re, sys, threading, time
from pathlib import Path
from imarium.engine import Watch, WatchOptions

class Hangs:
    def opened(self, descriptor, task, *, executes):
        if sys.argv[2] == "spin":
            re.match("(a+)+$", "a" * 60 + "b")
        time.sleep(600)
    def closed(self, descriptor):
        pass

with Watch([Path(sys.argv[1])], Hangs(), print, options=WatchOptions(deadline=600, workers=2, patience=3)):
    print("watching", flush=True)
    sys.stdin.read()
"""


@contextmanager
def hanging(root: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """An engine in a process of its own that measures nothing, and lets nobody go."""
    command = [sys.executable, "-c", ENGINE, str(root), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "watching\n"
        try:
            yield engine
        finally:
            engine.kill()


def use(path: Path) -> list[subprocess.Popen[str]]:
    """Twelve processes that read or execute a file, and print 0 when they have."""
    reader = "import sys; open(sys.argv[1]); print(0)"
    starter = "import subprocess,sys; print(subprocess.run([sys.argv[1]]).returncode)"
    return [python(reader, path) for _ in range(6)] + [python(starter, path) for _ in range(6)]


def all_done(processes: list[subprocess.Popen[str]]) -> bool:
    return [process.communicate(timeout=PATIENCE)[0] for process in processes] == ["0\n"] * len(processes)


STANDING = """
import resource, sys, time
from pathlib import Path
from imarium.engine import Watch, WatchOptions

class Slow:
    def opened(self, descriptor, task, *, executes):
        time.sleep(0.5)
    def closed(self, descriptor):
        pass

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
with Watch([Path(sys.argv[1])], Slow(), lambda problem: None, options=WatchOptions(deadline=1)):
    print("watching", flush=True)
    sys.stdin.read()
"""

MANY = """
import sys, threading
failed = []
def one():
    try:
        open(sys.argv[1])
    except OSError as error:
        failed.append(str(error))
threads = [threading.Thread(target=one) for _ in range(400)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed)
"""


def test_more_events_at_once_than_files_may_be_open_refuse_nobody(root: Path) -> None:
    """The kernel refuses an open whose event finds no descriptor: the engine takes no more than it has room for."""
    path = root / "crowded"
    path.write_text("crowded")
    command = [sys.executable, "-c", STANDING, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "watching\n"
        engine.send_signal(signal.SIGSTOP)
        many = python(MANY, path)
        time.sleep(2)
        engine.send_signal(signal.SIGCONT)
        try:
            assert many.communicate(timeout=PATIENCE)[0] == "[]\n"
        finally:
            engine.kill()


def test_killing_the_engine_leaves_nobody_stuck(root: Path) -> None:
    path = program(root, "killed")
    with hanging(root, "sleep") as engine:
        waiting = use(path)
        until(lambda: all(map(waits, waiting[:6])))
        engine.send_signal(signal.SIGKILL)
        assert all_done(waiting)


@pytest.mark.parametrize("how", ["stopped", "spin"])
def test_an_engine_that_stands_still_is_killed(root: Path, how: str) -> None:
    """By a signal, or because one thread keeps all others from running."""
    path = program(root, how)
    with hanging(root, how) as engine:
        if how == "stopped":
            engine.send_signal(signal.SIGSTOP)
        assert all_done(use(path))
        assert engine.wait(PATIENCE) == -signal.SIGKILL
