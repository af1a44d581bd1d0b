"""Watching for real: fanotify on this machine's kernel, and files measured before they are used."""

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.watching import (
    Recorder,
    Stuck,
    holding,
    mounted,
    patient,
    program,
    program_tree,
    python,
    read_by_another,
    run_tree,
    waits,
)
from tests.waiting import PATIENCE, until

from imarium.engine import Watch, WatchOptions
from imarium.engine.content import hash_content
from imarium.errors import MissingComponent, UsageError
from imarium.hashes import HashAlgorithm


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("watched")) as path:
        yield path


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


def test_a_writer_that_comes_while_a_reader_still_waits_is_a_violation(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has nothing open yet: it waits for its file to be hashed. It will read what the writer writes."""
    recorder = Recorder()
    path = root / "long"
    path.write_text("long")
    begun, free = threading.Event(), threading.Event()

    def hash_slowly(descriptor: int, algorithms: tuple[HashAlgorithm, ...]) -> tuple[bytes, ...]:
        begun.set()
        assert free.wait(PATIENCE)
        return hash_content(descriptor, algorithms)

    monkeypatch.setattr("imarium.engine.collect.hash_content", hash_slowly)
    with recorder.watch(root):
        reader = python("import sys; f=open(sys.argv[1]); print(0,flush=True); sys.stdin.read()", path)
        assert begun.wait(PATIENCE)
        writer = python("import os,sys; os.open(sys.argv[1],os.O_WRONLY); print(0)", path)
        until(lambda: waits(writer))
        assert recorder.of(path) == []
        free.set()
        assert writer.communicate(timeout=PATIENCE)[0] == "0\n"
        assert reader.communicate(timeout=PATIENCE)[0] == "0\n"
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
        out, _ = python(code, root).communicate(timeout=PATIENCE)
    assert out == "done\n"
    assert recorder.events == []
    assert recorder.problems == []


def test_what_gets_the_number_of_an_exempt_process_is_measured(root: Path) -> None:
    path = root / "reused"
    path.write_text("reused")
    recorder = Recorder()
    exempt = python("import sys; sys.stdin.readline()")
    with recorder.watch(root, patient(exempt=(exempt.pid,))):
        exempt.communicate("\n", timeout=PATIENCE)
        for _ in range(1000):  # others may take the number
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(exempt.pid - 1))
            with python("import sys; sys.stdin.readline(); open(sys.argv[1])", path) as other:
                if other.pid == exempt.pid:
                    other.communicate("\n", timeout=PATIENCE)
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


def test_only_what_is_below_a_path_is_measured(root: Path) -> None:
    recorder = Recorder()
    for name in ("part", "part2"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    (root / "single").write_text("single")
    with Watch([root / "part", root / "single"], recorder.measurer(), recorder.problems.append, options=patient()):
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
