"""The adapter from FUSE to a tree of files: who calls, what is passed on, and how a mount ends, in whatever way."""

import ctypes
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from imarium.errors import MissingComponent, UsageError
from imarium.fuse import CAP_SYS_ADMIN, Attributes, Caller, Task, TreeError, mounted, unmount

SYSTEM_CALL_UNSHARE, CLONE_NEWUSER = 272, 0x10000000


class Noting:
    """A tree of a few files that notes what is asked of it."""

    FILES: ClassVar = {"/sized": Attributes(stat.S_IFREG | 0o666, 7), "/made": Attributes(stat.S_IFREG | 0o666, None)}

    def __init__(self):
        self.callers: list[Caller] = []
        self.tasks: list[Task | None] = []
        self.administers: list[bool] = []
        self.handles: list[Noted] = []
        self.released_before_open: list[int] = []

    def attributes(self, path):
        if path == "/":
            return Attributes(stat.S_IFDIR | 0o555)
        if path == "/link":
            return Attributes(stat.S_IFLNK | 0o777, 5)
        if path == "/broken":
            raise MissingComponent("an error without a number")
        if path not in self.FILES:
            raise TreeError(errno.ENOENT)
        return self.FILES[path]

    def names(self, _path):
        return ["sized", "made", "link"]

    def readlink(self, _path):
        return "sized"

    def open(self, _path, _flags, caller):
        self.callers.append(caller)
        self.tasks.append(caller.task())
        self.administers.append(caller.has_capability(CAP_SYS_ADMIN))
        self.released_before_open.append(sum(handle.released for handle in self.handles))
        self.handles.append(Noted())
        return self.handles[-1]

    def truncate(self, _path, length):
        if length:
            raise TreeError(errno.EFBIG)


class Noted:
    def __init__(self):
        self.seen: list[tuple[str, int, int]] = []
        self.released = 0

    def read(self, offset, size):
        self.seen.append(("read", offset, size))
        return b"content"[offset : offset + size]

    def write(self, offset, data):
        self.seen.append(("write", offset, len(data)))
        return len(data)

    def release(self):
        self.released += 1


@pytest.fixture
def tree():
    return Noting()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


@pytest.fixture
def mount(tree, place):
    with mounted(tree, place, fsname="imarium-test", allow_other=True):
        yield place


def is_mounted(place):
    return f" {place} " in Path("/proc/self/mounts").read_text()


def failing(number, operation, *arguments):
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        operation(*arguments)
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[number]


def test_files_links_and_names(mount):
    assert sorted(os.listdir(mount)) == ["link", "made", "sized"]  # noqa: PTH208
    assert (mount / "link").readlink() == Path("sized")
    assert (mount / "link").read_bytes() == (mount / "made").read_bytes() == b"content"
    assert ((mount / "sized").stat().st_size, (mount / "made").stat().st_size) == (7, 0)
    failing(errno.ENOENT, (mount / "none").read_bytes)
    failing(errno.EIO, (mount / "broken").stat)
    assert "imarium-test" in Path("/proc/self/mounts").read_text()


def test_a_file_that_is_made_while_it_is_read_has_no_end_and_no_sync(mount):
    for name, ending in (("sized", 7), ("made", None)):
        descriptor = os.open(mount / name, os.O_RDWR)
        try:
            assert os.fstat(descriptor).st_size == (ending or 0)
            if ending is None:
                failing(errno.EINVAL, os.lseek, descriptor, 0, os.SEEK_END)
                failing(errno.EINVAL, os.lseek, descriptor, 0, os.SEEK_DATA)
                failing(errno.EINVAL, os.fsync, descriptor)
            else:
                assert os.lseek(descriptor, 0, os.SEEK_END) == ending
                os.fsync(descriptor)
            assert os.lseek(descriptor, 3, os.SEEK_SET) == 3
            assert os.read(descriptor, 2) == b"te"
            assert os.lseek(descriptor, 1, os.SEEK_CUR) == 6
        finally:
            os.close(descriptor)


def test_each_read_and_write_is_one_of_the_trees(tree, mount):
    descriptor = os.open(mount / "made", os.O_RDWR)
    os.pwrite(descriptor, b"x" * 22, 9)
    os.pread(descriptor, 1 << 17, 2)
    os.write(descriptor, b"y")
    os.close(descriptor)
    assert tree.handles[0].seen == [("write", 9, 22), ("read", 2, 1 << 17), ("write", 0, 1)]


def test_names_are_fixed_and_truncation_is_the_trees(mount):
    failing(errno.EACCES, (mount / "new").touch)
    for refused in (mount / "new").mkdir, (mount / "made").unlink, lambda: (mount / "made").chmod(0o600):
        failing(errno.EPERM, refused)
    os.truncate(mount / "made", 0)
    failing(errno.EFBIG, os.truncate, mount / "made", 5)


def test_a_release_comes_with_the_last_descriptor_and_before_the_next_open(tree, mount):
    first = os.open(mount / "made", os.O_RDONLY)
    second = os.dup(first)
    os.close(first)
    assert tree.handles[0].released == 0
    os.close(second)
    for number in range(200):
        os.close(os.open(mount / "made", os.O_RDONLY))
        assert tree.handles[number].released == 1


def test_a_thousand_releases_come_before_the_next_open(tree, mount):
    """Also where the server is slow: the kernel holds some of them back only beyond a limit that is never met."""
    descriptors = [os.open(mount / "made", os.O_RDONLY) for _ in range(900)]
    for descriptor in descriptors:
        os.close(descriptor)
    os.close(os.open(mount / "made", os.O_RDONLY))
    assert tree.released_before_open[-1] == 900


def test_the_caller_is_the_thread(tree, mount):
    def call():
        seen.append(threading.get_native_id())
        os.close(os.open(mount / "made", os.O_RDONLY))

    seen: list[int] = []
    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [caller.tid for caller in tree.callers] == seen
    assert seen[0] != seen[1]
    assert [task.tid for task in tree.tasks] == seen
    assert tree.tasks[0] == Caller(seen[0], 0, 0).task()
    assert tree.tasks[0].started <= tree.tasks[1].started


def in_child(action) -> int:
    """Run it in a child; 0, or the ``errno`` it ended with."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def drop_capabilities():
    """Of this thread, all, staying root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def unshare_user():
    if ctypes.CDLL(None, use_errno=True).syscall(SYSTEM_CALL_UNSHARE, CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")


def test_the_capability_is_that_of_the_thread_in_our_namespace(tree, mount):
    def ask(path=mount / "made"):
        os.close(os.open(path, os.O_RDONLY))

    def as_user():
        os.chdir(mount)  # what is above may be closed to others
        os.setgid(1000)
        os.setuid(1000)
        ask("made")

    def in_own_namespace():
        os.chdir(mount)
        unshare_user()
        assert "CapEff:\t0000000000000000" not in Path("/proc/self/status").read_text()
        ask("made")

    ask()
    assert in_child(as_user) == 0
    assert in_child(lambda: (drop_capabilities(), ask())) == 0
    assert in_child(in_own_namespace) == 0, "no user namespaces here: sysctl user.max_user_namespaces"
    assert tree.administers == [True, False, False, False]
    assert [caller.uid for caller in tree.callers[:3]] == [0, 1000, 0]


@pytest.mark.parametrize(("own_proc", "seen"), [([], False), (["--mount-proc"], True)])
def test_in_a_process_namespace_a_proc_of_another_one_is_not_trusted(place, own_proc, seen):
    """There the same number is another thread, and its capabilities are another's."""
    script = """
        import importlib.util, os, sys
        from pathlib import Path
        from imarium.fuse import mounted
        spec = importlib.util.spec_from_file_location("test_fuse", sys.argv[1])
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        tree, place = tests.Noting(), Path(sys.argv[2])
        with mounted(tree, place, fsname="imarium-test"):
            (place / "made").read_bytes()
            print(tree.callers[0].tid > 0, tree.administers[0], tree.tasks[0] is not None)
    """
    command = ["unshare", "--pid", "--fork", *own_proc, sys.executable, "-c", textwrap.dedent(script), __file__, place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"True {seen} {seen}\n", done.stderr


def test_what_is_not_to_be_seen_may_nothing():
    for tid in (0, 1 << 30):
        assert Caller(tid, 0, 0).task() is None
        assert not Caller(tid, 0, 0).has_capability(CAP_SYS_ADMIN)


def test_a_mount_in_a_thread_ends_with_its_block_although_files_are_open(tree, place):
    before = Path.cwd()
    with mounted(tree, place, fsname="imarium-test") as found:
        assert Path.cwd() == before
        descriptor = os.open(place / "made", os.O_RDONLY)
        assert not found.ended
    assert found.ended
    assert not is_mounted(place)
    assert tree.handles[0].released == 1
    failing(errno.ENOTCONN, os.read, descriptor, 1)
    failing(errno.ENOTCONN, os.close, descriptor)
    with mounted(tree, place, fsname="imarium-test"):
        assert (place / "made").read_bytes() == b"content"


def test_a_mount_in_a_thread_is_ended_from_outside(tree, place):
    with mounted(tree, place, fsname="imarium-test") as found:
        subprocess.run(["umount", place], check=True)
        assert found.wait(60)
    with mounted(tree, place, fsname="imarium-test") as found:
        unmount(place)
        assert found.wait(60)
    with mounted(tree, place, fsname="imarium-test") as found:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert found.wait(60)
        assert (place / "made").read_bytes() == b"content"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not is_mounted(place)


def test_unmounting_by_another_just_before_is_no_error(tree, place):
    for _ in range(20):
        with mounted(tree, place, fsname="imarium-test"):
            subprocess.run(["umount", "-l", place], check=True)
    assert not is_mounted(place)


def test_a_place_in_use_is_refused(tree, mount, tmp_path):
    def serve(where):
        with mounted(tree, where, fsname="imarium-test"):
            raise AssertionError("mounted")

    with pytest.raises(UsageError, match="something is mounted there; unmount it"):
        serve(mount)
    with pytest.raises(UsageError, match="not empty"):
        serve(tmp_path)
    for path in (tmp_path / "none", Path("/dev/null")):
        with pytest.raises(MissingComponent, match="not a directory; make it first"):
            serve(path)
    with pytest.raises(MissingComponent, match="could not be unmounted"):
        unmount(tmp_path)


def test_a_user_without_privileges_mounts_and_unmounts():
    """By fusermount3. For the others of the machine the place is closed then, for root too."""
    assert shutil.which("fusermount3"), "fusermount3 is missing: apt install fuse3"
    script = """
        import importlib.util, os, sys
        os.setgroups([]); os.setgid(1000); os.setuid(1000)
        from pathlib import Path
        from imarium.fuse import mounted, unmount
        spec = importlib.util.spec_from_file_location("test_fuse", sys.argv[1])
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        tree, place = tests.Noting(), Path(sys.argv[2])
        with mounted(tree, place, fsname="imarium-test") as found:
            print((place / "made").read_bytes(), place.stat().st_uid, tree.administers)
        with mounted(tree, place, fsname="imarium-test") as found:
            unmount(place)
            print(found.wait(60))
    """
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, 1000, 1000)
        command = [sys.executable, "-c", textwrap.dedent(script), __file__, directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == "b'content' 1000 [False]\nTrue\n", done.stderr


def test_what_a_killed_server_leaves_is_told_and_can_be_unmounted(tree, place):
    script = """
        import importlib.util, sys
        from pathlib import Path
        from imarium.fuse import mount
        spec = importlib.util.spec_from_file_location("test_fuse", sys.argv[1])
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        mount(tests.Noting(), Path(sys.argv[2]), fsname="imarium-test", ready=lambda: print("ready", flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), __file__, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        server.kill()
    deadline = time.monotonic() + 60
    while is_mounted(place):
        try:
            with (
                pytest.raises(MissingComponent, match=f"server .* is gone; run 'umount -l {place}' first"),
                mounted(tree, place, fsname="imarium-test"),
            ):
                raise AssertionError("mounted over it")
            break
        finally:
            assert time.monotonic() < deadline
    unmount(place)
    with mounted(tree, place, fsname="imarium-test"):
        assert (place / "made").read_bytes() == b"content"
