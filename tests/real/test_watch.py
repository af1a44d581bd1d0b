"""Watching for real: fanotify on this machine's kernel, files measured before they are used, nobody stuck."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.real.watching import (
    Recorder,
    holding,
    mounted,
    program,
    program_tree,
    python,
    read_by_another,
    run_tree,
    wait_until,
)

from imarium.engine import Problem, ProblemKind, Watch, WatchOptions
from imarium.engine.file_cache import FileCache
from imarium.engine.guardian import Guardian
from imarium.errors import MissingComponent, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("watched"), 256) as path:
        yield path


class Stuck:
    """A measurer that hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        del descriptor, task, executes
        self.entered.release()
        self.free.wait(60)

    def closed(self, descriptor: int) -> None:
        del descriptor


class Failing(Stuck):
    """A measurer that cannot."""

    def opened(self, descriptor: int, task: int, *, executes: bool) -> None:
        del descriptor, task, executes
        raise OSError(5, "Input/output error")


def test_a_file_is_in_the_list_before_it_is_used(root: Path) -> None:
    recorder = Recorder()
    path = program(root, "before")
    (root / "text").write_text("text")
    with recorder.watch(root):
        subprocess.run([path], check=True)
        assert recorder.of(path) == ["content"]
        subprocess.run([path], check=True)
        read_by_another(root / "text")
        assert recorder.of(root / "text") == ["content"]
        assert recorder.of(path) == ["content"]
    assert recorder.problems == []
    read_by_another(path)


def test_what_changes_between_two_executions_is_there_twice(root: Path) -> None:
    recorder = Recorder()
    path = program(root, "changing", b"one")
    with recorder.watch(root):
        subprocess.run([path], check=True)
        program(root, "changing", b"two")
        subprocess.run([path], check=True)
        subprocess.run([path], check=True)
    assert recorder.of(path) == ["content", "content"]
    assert len({event.digest for event in recorder.events if event.name == os.fsencode(path)}) == 2


def test_a_change_within_the_same_tick_is_seen(root: Path) -> None:
    """The times of the file are set back: only what cannot be set, the time of the change, tells."""
    recorder = Recorder()
    path = root / "backdated"
    with recorder.watch(root):
        for turn in range(20):
            path.write_text(f"turn {turn:02}")
            os.utime(path, (1, 1))
            read_by_another(path)
    assert recorder.of(path) == ["content"] * 20


def test_reading_beside_a_writer_is_a_violation(root: Path) -> None:
    recorder = Recorder()
    path = root / "written"
    path.write_text("written")
    with recorder.watch(root), holding(path, os.O_WRONLY):
        read_by_another(path)
        read_by_another(path)
    assert recorder.of(path) == ["violation", "content"]


def test_executing_beside_a_writer_is_a_violation(root: Path) -> None:
    recorder = Recorder()
    path = program(root, "busy")
    with recorder.watch(root), holding(path, os.O_WRONLY), pytest.raises(OSError, match="Text file busy"):
        subprocess.run([path], check=True)
    assert recorder.of(path)[0] == "violation"


def test_writing_beside_a_reader_is_a_violation(root: Path) -> None:
    recorder = Recorder()
    path = root / "read"
    path.write_text("read")
    with recorder.watch(root), holding(path, os.O_RDONLY):
        with holding(path, os.O_WRONLY):
            pass
        with holding(path, os.O_RDWR):
            pass
    assert recorder.of(path) == ["content", "violation"]


def test_a_writer_that_comes_while_a_reader_still_waits_is_a_violation(root: Path) -> None:
    """The reader has nothing open yet: it waits for its file to be hashed. It will read what the writer writes."""
    recorder = Recorder()
    path = root / "long"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    cache = FileCache()

    def is_hashed() -> bool:
        state = cache.known(path.stat().st_dev, path.stat().st_ino)
        return state is not None and state.may_tomtou

    options = WatchOptions(deadline=60)
    with Watch([root], recorder.measurer(cache), recorder.problems.append, options=options):
        reader = python("import sys; print(1,flush=True); f=open(sys.argv[1]); print(0,flush=True); input()", path)
        writer = python("import sys; print(1,flush=True); input(); open(sys.argv[1],'r+b'); print(0)", path)
        for process in (writer, reader):
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
        wait_until(is_hashed)
        assert recorder.of(path) == []
        assert writer.communicate("\n", timeout=20)[0] == "0\n"
        assert reader.communicate("\n", timeout=20)[0] == "0\n"
    path.unlink()
    assert recorder.of(path) == ["content", "violation"]


def test_a_writer_alone_is_none(root: Path) -> None:
    recorder = Recorder()
    path = root / "alone"
    path.write_text("alone")
    with recorder.watch(root):
        read_by_another(path)
        for _ in range(3):
            with holding(path, os.O_WRONLY | os.O_APPEND):
                pass
    assert recorder.of(path) == ["content"]


def test_special_files_keep_nobody(root: Path) -> None:
    recorder = Recorder()
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / "link").symlink_to("null")
    code = (
        "import os,sys; os.chdir(sys.argv[1]); [os.close(os.open(n,os.O_RDONLY)) for n in ('null','link','.')];"
        "r=os.open('fifo',os.O_RDONLY|os.O_NONBLOCK); w=os.open('fifo',os.O_WRONLY); print('done')"
    )
    with recorder.watch(root):
        out, _ = python(code, root).communicate(timeout=20)
    assert out == "done\n"
    assert recorder.events == []
    assert recorder.problems == []


def test_the_own_process_is_let_go_at_once(root: Path) -> None:
    path = root / "own"
    path.write_text("own")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=WatchOptions(deadline=30)):
        begun = time.monotonic()
        threads = [threading.Thread(target=path.read_text) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert path.read_text() == "own"
        assert time.monotonic() - begun < 5
        assert not stuck.entered.acquire(blocking=False)
    assert problems == []


def test_exempt_processes_are_let_go_at_once(root: Path) -> None:
    path = root / "exempt"
    path.write_text("exempt")
    code = "import sys; sys.stdin.readline(); print(open(sys.argv[1]).read(),flush=True)"
    process = python(code, path)
    stuck = Stuck()
    with Watch([root], stuck, print, options=WatchOptions(deadline=30, exempt=(process.pid,))):
        out, _ = process.communicate("\n", timeout=10)
    assert out == "exempt\n"
    assert not stuck.entered.acquire(blocking=False)


def test_what_gets_the_number_of_an_exempt_process_is_measured(root: Path) -> None:
    path = root / "reused"
    path.write_text("reused")
    recorder = Recorder()
    exempt = python("import sys; sys.stdin.readline()")
    with recorder.watch(root, WatchOptions(exempt=(exempt.pid,))):
        exempt.communicate("\n", timeout=10)
        for _ in range(100):
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(exempt.pid - 1))
            with python("import sys; sys.stdin.readline(); open(sys.argv[1])", path) as other:
                if other.pid == exempt.pid:
                    other.communicate("\n", timeout=10)
                    break
                other.kill()
        else:
            raise AssertionError("no other process got the number")
    assert recorder.of(path) == ["content"]


def test_a_process_to_exempt_that_is_not_there(root: Path) -> None:
    with (
        pytest.raises(MissingComponent, match="no process 4194305"),
        Watch([root], Stuck(), print, options=WatchOptions(exempt=(4194305,))),
    ):
        pass
    read_by_another(root)


def test_a_deadline_lets_go_what_hangs_and_says_so(root: Path) -> None:
    path = root / "slow"
    path.write_text("slow")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=WatchOptions(deadline=0.5, workers=2)):
        took = [read_by_another(path) for _ in range(4)]
        assert all(0.3 < seconds < 3 for seconds in took)
        wait_until(lambda: len(problems) == 4)
        stuck.free.set()
    assert {(problem.kind, problem.name) for problem in problems} == {(ProblemKind.OVERDUE, os.fsencode(path))}


def test_too_many_are_let_go_at_once_and_said_so(root: Path) -> None:
    path = root / "many"
    path.write_text("many")
    stuck, problems = Stuck(), list[Problem]()
    options = WatchOptions(deadline=30, workers=2, waiting=3)
    code = "import sys; open(sys.argv[1]); print('done',flush=True)"
    with Watch([root], stuck, problems.append, options=options):
        waiting = [python(code, path) for _ in range(3)]
        for _ in range(2):
            assert stuck.entered.acquire(timeout=10)
        time.sleep(0.2)
        assert read_by_another(path) < 10
        wait_until(lambda: len(problems) == 1)
        stuck.free.set()
        assert [process.communicate(timeout=10)[0] for process in waiting] == ["done\n"] * 3
    assert problems[0].kind is ProblemKind.OVERLOADED


def test_when_all_that_measures_hangs_nobody_waits_for_it(root: Path) -> None:
    """Hanging threads are replaced, four times over; after that who comes goes on at once, until one is free."""
    path = root / "hanging"
    path.write_text("hanging")
    stuck, problems = Stuck(), list[Problem]()
    with Watch([root], stuck, problems.append, options=WatchOptions(deadline=0.5, workers=1)):
        assert all(read_by_another(path) > 0.3 for _ in range(4))
        wait_until(lambda: len(problems) == 4)
        assert read_by_another(path) < 0.3
        wait_until(lambda: len(problems) == 5)
        stuck.free.set()
        wait_until(lambda: read_by_another(path) < 0.3 and len(problems) == 5)
    kinds = [problem.kind for problem in problems]
    assert kinds == [ProblemKind.OVERDUE] * 4 + [ProblemKind.OVERLOADED]
    assert problems[4].detail == "measuring hangs"


def test_a_failure_lets_go_and_is_told(root: Path) -> None:
    path = root / "failing"
    path.write_text("failing")
    problems: list[Problem] = []
    with Watch([root], Failing(), problems.append):
        read_by_another(path)
        wait_until(lambda: bool(problems))
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
    with Watch([root], Broken(), problems.append, options=WatchOptions(deadline=20, workers=1)):
        assert all(read_by_another(path) < 5 for _ in range(3))
    assert [(problem.kind, problem.detail) for problem in problems] == [(ProblemKind.FAILED, "broke off")] * 3


def test_whoever_is_told_may_be_slow(root: Path) -> None:
    """Telling of problems happens apart: who waits does not wait for that."""
    path = root / "told"
    path.write_text("told")
    free = threading.Event()
    stuck = Stuck()

    def tell(_problem: Problem) -> None:
        free.wait(60)

    with Watch([root], stuck, tell, options=WatchOptions(deadline=0.3)):
        assert all(read_by_another(path) < 3 for _ in range(3))
        free.set()
        stuck.free.set()


def test_ending_lets_everybody_go(root: Path) -> None:
    path = root / "ending"
    path.write_text("ending")
    stuck = Stuck()
    with Watch([root], stuck, print, options=WatchOptions(deadline=20)):
        waiting = [python("import sys; open(sys.argv[1]); print('done',flush=True)", path) for _ in range(5)]
        assert stuck.entered.acquire(timeout=10)
        stuck.free.set()
    assert [process.communicate(timeout=10)[0] for process in waiting] == ["done\n"] * 5


def test_only_what_is_below_a_path_is_measured(root: Path) -> None:
    recorder = Recorder()
    for name in ("part", "part2"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    (root / "single").write_text("single")
    with Watch([root / "part", root / "single"], recorder.measurer(), recorder.problems.append):
        for path in (root / "part" / "file", root / "part2" / "file", root / "single"):
            read_by_another(path)
    assert [event.name for event in recorder.events] == [os.fsencode(root / name) for name in ("part/file", "single")]


def test_what_cannot_be_watched(root: Path, tmp_path: Path) -> None:
    stuck = Stuck()
    with pytest.raises(UsageError):
        Watch([], stuck, print)
    with pytest.raises(MissingComponent):
        Watch([tmp_path / "missing"], stuck, print)
    with pytest.raises(UsageError, match="itself serves"):
        Watch([root], stuck, print, mounts=[root])
    with pytest.raises(MissingComponent), Watch([Path("/proc/self/ns")], stuck, print):
        pass


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
    """Twelve processes that execute or read a file, and print 0 when they have."""
    starter = "import subprocess,sys; print(subprocess.run([sys.argv[1]]).returncode)"
    reader = "import sys; open(sys.argv[1]); print(0)"
    return [python(starter, path) for _ in range(6)] + [python(reader, path) for _ in range(6)]


def all_done(processes: list[subprocess.Popen[str]]) -> bool:
    return [process.communicate(timeout=15)[0] for process in processes] == ["0\n"] * len(processes)


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
            assert many.communicate(timeout=30)[0] == "[]\n"
        finally:
            engine.kill()


def test_killing_the_engine_leaves_nobody_stuck(root: Path) -> None:
    path = program(root, "killed")
    with hanging(root, "sleep") as engine:
        waiting = use(path)
        time.sleep(1)
        assert [process.poll() for process in waiting] == [None] * 12
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
        assert engine.wait(10) == -signal.SIGKILL


def test_a_guardian_that_does_not_listen_holds_up_nobody() -> None:
    with Guardian(60) as guardian:
        assert guardian.process is not None
        os.kill(guardian.process, signal.SIGSTOP)
        begun = time.monotonic()
        for _ in range(100_000):  # more than a pipe holds
            guardian.alive()
        assert time.monotonic() - begun < 20
        os.kill(guardian.process, signal.SIGCONT)


@pytest.fixture(scope="module")
def tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program_tree(root, tmp_path_factory.mktemp("build"))


def test_a_thousand_programs_and_libraries_from_four_processes(tree: Path, root: Path) -> None:
    recorder = Recorder()
    with recorder.watch(root):
        run_tree(tree)
    assert recorder.problems == []
    assert not any(event.violation for event in recorder.events)
    assert Counter(event.name for event in recorder.events) == Counter(map(os.fsencode, tree.iterdir()))
    for event in recorder.events[::20]:
        assert event.digest == event.algorithm.digest(Path(os.fsdecode(event.name)).read_bytes())
