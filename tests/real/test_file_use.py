"""What can be told of files that others use: who waits for them, who has them open, where they are; and fs-verity."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.verity_fs import CONTENT, DIGEST
from tests.real.watching import holding, mounted, python, waits_in
from tests.waiting import PATIENCE, until

from imarium.engine import Access, Action, Event, FileMeasurer, Hook, PolicyFile, event_data, find_template
from imarium.engine.collect import NoVerityDigest
from imarium.engine.file_system import FileSystems
from imarium.engine.process import is_opening, open_call, subject_of
from imarium.engine.readers import RecentReaders
from imarium.engine.verity import verity_digest
from imarium.engine.writers import is_open_for_reading, is_open_for_writing
from imarium.hashes import SHA1, SHA256


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("used")) as path:
        yield path


@pytest.fixture(scope="module")
def verity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system that knows digests of fs-verity."""
    assert importlib.util.find_spec("mfusepy"), "mfusepy is missing: pip install 'imarium[fuse]'"
    place = tmp_path_factory.mktemp("verity")
    command = [sys.executable, str(Path(__file__).with_name("verity_fs.py")), str(place)]
    with subprocess.Popen(command) as server:
        try:
            until(lambda: server.poll() is None and place.is_mount())
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=False)
            server.terminate()


def waiting_in(fifo: Path, code: str) -> Iterator[int]:
    """A process that waits in a call that opens a fifo; its id."""
    process = python(code, fifo)
    try:
        until(lambda: waits_in(process, "wait_for_partner", "fifo_open"))  # and no more for a file of Python's own
        yield process.pid
    finally:
        process.kill()
        process.communicate()


OPENAT2 = (
    "import ctypes,os,sys; how=(ctypes.c_uint64*3)(os.O_WRONLY|os.O_APPEND,0,0);"
    "ctypes.CDLL(None).syscall(437,-100,os.fsencode(sys.argv[1]),how,24)"
)


@pytest.mark.parametrize(
    ("code", "access"),
    [
        ("import os,sys; os.open(sys.argv[1],os.O_RDONLY)", Access.READ),
        ("import os,sys; os.open(sys.argv[1],os.O_WRONLY|os.O_TRUNC)", Access.WRITE),
        ("import ctypes,os,sys; ctypes.CDLL(None).creat(os.fsencode(sys.argv[1]),0o600)", Access.WRITE),
        (OPENAT2, Access.WRITE | Access.APPEND),
    ],
    ids=["openat", "truncating", "creat", "openat2"],
)
def test_what_a_waiting_task_asked_for(tmp_path: Path, code: str, access: Access) -> None:
    os.mkfifo(tmp_path / "fifo")
    for pid in waiting_in(tmp_path / "fifo", code):
        call = open_call(pid)
        assert (call.access, call.writes, call.executes) == (access, access != Access.READ, False)
        assert is_opening(pid)


def test_a_task_that_has_gone_counts_as_one_that_may_do_everything() -> None:
    process = python("")
    process.communicate()
    assert open_call(process.pid).flags is None
    assert not is_opening(process.pid)
    assert (subject_of(process.pid).uid, subject_of(process.pid).may_setuid) == (0, True)


def test_whose_task_it_is() -> None:
    code = (
        "import os,sys; os.setgroups(range(1000,1200)); os.setresgid(5,6,7); os.setresuid(1,2,3);"
        "print('ready',flush=True); sys.stdin.read()"
    )
    process = python(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    found = subject_of(process.pid)
    process.communicate()
    assert (found.uid, found.euid, found.suid, found.gid, found.egid, found.sgid) == (1, 2, 3, 5, 6, 7)
    assert not found.may_setuid
    assert not found.may_setgid
    assert subject_of(os.getpid()).may_setuid


def test_who_has_thousands_of_groups_is_told_all_the_same() -> None:
    """What is known of a task's groups comes before its capabilities, and takes more than one read."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; print(0, flush=True); sys.stdin.readline()"]
    groups = range(100_000, 105_000)
    with subprocess.Popen(
        command, user=1234, group=1235, extra_groups=groups, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        found = subject_of(process.pid)
        process.communicate(b"\n", timeout=PATIENCE)
    assert (found.uid, found.euid, found.gid, found.may_setuid) == (1234, 1234, 1235, False)


@pytest.mark.parametrize("place", ["ext4", "tmpfs", "overlay"])
def test_who_has_a_file_open(root: Path, tmp_path: Path, place: str) -> None:
    where = tmp_path / place
    where.mkdir()
    if place == "ext4":
        where = root
    elif place == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(where)], check=True)
    else:
        for name in ("lower", "upper", "work"):
            (root / name).mkdir()
        (root / "lower" / "used").write_text("used")
        options = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(where)], check=True)
    path = where / "used"
    try:
        path.write_text("used")
        with path.open("rb") as file:
            number = file.fileno()
            assert not is_open_for_writing(number)
            assert not is_open_for_reading(number)
            with holding(path, os.O_RDONLY):
                assert is_open_for_reading(number)
                assert not is_open_for_writing(number)
            for flags in (os.O_WRONLY, os.O_RDWR):
                with holding(path, flags):
                    assert is_open_for_writing(number)
                    assert not is_open_for_reading(number)
            code = (
                "import mmap,os,sys; f=os.open(sys.argv[1],os.O_RDONLY); m=mmap.mmap(f,4,prot=mmap.PROT_READ);"
                "os.close(f); print('mapped',flush=True); sys.stdin.read()"
            )
            process = python(code, path)
            assert process.stdout is not None
            assert process.stdout.readline() == "mapped\n"
            assert is_open_for_reading(number)
            process.communicate()
    finally:
        if place != "ext4":
            subprocess.run(["umount", str(where)], check=True)


def test_a_writer_that_meets_the_question_is_not_refused(root: Path) -> None:
    """The lease is there for a moment; nobody is told no for it, and the process that asks survives."""
    path = root / "asked"
    path.write_text("x")
    code = "import os,sys; [os.close(os.open(sys.argv[1],os.O_WRONLY)) for _ in range(3000)]; print('done',flush=True)"
    process = python(code, path)
    with path.open("rb") as file:
        while process.poll() is None:
            is_open_for_writing(file.fileno())
    assert process.communicate()[0] == "done\n"
    assert process.returncode == 0


def test_readers_that_were_let_go_a_moment_ago() -> None:
    """One that runs may be on its way to the open file; one that waits for something else is not."""
    readers = RecentReaders()
    busy, idle = python("print(1,flush=True)\nwhile True: pass"), python("print(1,flush=True); input()")
    try:
        for process in (busy, idle):
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
        until(lambda: not is_opening(idle.pid))
        with readers.reading(1, 2, busy.pid), readers.reading(1, 3, idle.pid):
            assert readers.any(1, 2, but=0)
            assert not readers.any(1, 2, but=busy.pid)
            assert not readers.any(1, 3, but=0)
            assert not readers.any(1, 4, but=0)
        assert readers.any(1, 2, but=0)
        time.sleep(0.05)
        assert not readers.any(1, 2, but=0)
    finally:
        for process in (busy, idle):
            process.kill()
            process.communicate()


def test_readers_that_were_let_go_are_forgotten_also_while_one_waits_for_long() -> None:
    readers = RecentReaders()
    with readers.reading(1, 1, 1):
        for number in range(1000):
            with readers.reading(1, number, 2):
                pass
        time.sleep(0.05)
        with readers.reading(1, 2, 3):
            pass
        assert len(readers) == 2


def test_on_which_file_system_it_is(root: Path, verity: Path) -> None:
    (root / "file").write_text("x")
    found = {}
    for path in (root / "file", verity / "plain", Path("/proc/version")):
        with path.open("rb") as file:
            found[path] = FileSystems().of(file.fileno(), os.fstat(file.fileno()).st_dev)
    ext4, fuse, proc = found.values()
    device = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {root} " in line)
    told = subprocess.run(["blkid", "-o", "value", "-s", "UUID", device], check=True, capture_output=True, text=True)
    assert (ext4.magic, ext4.name, ext4.subtype) == (0xEF53, b"ext4", None)
    assert ext4.uuid.hex() == told.stdout.strip().replace("-", "")
    assert (fuse.magic, fuse.name) == (0x65735546, b"fuse")
    assert (proc.magic, proc.name, proc.uuid) == (0x9FA0, b"proc", bytes(16))


def test_digests_of_fs_verity_are_those_the_file_system_has(verity: Path) -> None:
    events: list[tuple[Event, Action]] = []

    def add(event: Event, action: Action) -> bool:
        events.append((event, action))
        return True

    policy = PolicyFile()
    policy.append(b"measure func=FILE_CHECK digest_type=verity template=ima-ngv2\nmeasure template=ima-sigv2\n")
    files = FileMeasurer(policy, add, hash_algorithm=SHA256, template="ima", byte_order="little")
    with (verity / "sealed").open("rb") as file:
        assert verity_digest(file.fileno()) == (SHA256, DIGEST)
    assert files.measure(verity / "sealed", Hook.FILE_CHECK)
    with pytest.raises(NoVerityDigest):
        files.measure(verity / "plain", Hook.FILE_CHECK)
    assert files.measure(verity / "plain", Hook.MODULE_CHECK)
    records = [event_data(find_template(action.template or "ima"), event, "little") for event, action in events]
    assert b"verity:sha256:\0" + DIGEST in records[0]
    assert b"ima:sha256:\0" + SHA256.digest(CONTENT) in records[1]
    old = PolicyFile()
    old.append(b"measure digest_type=verity template=ima\n")
    FileMeasurer(old, add, hash_algorithm=SHA256, template="ima", byte_order="little").measure(
        verity / "sealed", Hook.FILE_CHECK
    )
    assert (events[-1][0].digest, events[-1][0].sha1) == (DIGEST, SHA1.digest(CONTENT))
