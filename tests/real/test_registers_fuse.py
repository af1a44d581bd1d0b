"""The register tree as the kernel shows it through FUSE: each rule, with system calls and with a shell's tools."""

import ctypes.util
import errno
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.waiting import until

from imarium.hashes import SHA256, SHA384
from imarium.registers import Access, EventLog, FileRegisters, Register

REGISTERS = [
    Register("both", 32, SHA256, Access.RTMR | Access.W),
    Register("events", 48, SHA384, Access.RTMR),
    Register("stored", 16, None, Access.R | Access.W),
    Register("fixed", 16, None, Access.R),
]
PAGE = 4096


@dataclass
class Mounted:
    """A mount, the process that serves it, and what it serves."""

    root: Path
    process: subprocess.Popen[str]
    registers: FileRegisters
    logs: Path

    @property
    def both(self) -> Path:
        return self.root / "software" / "both"

    @property
    def events(self) -> Path:
        return self.root / "software" / "events"

    def value(self, name: str) -> bytes:
        return self.registers.read(next(register for register in REGISTERS if register.name == name))

    @property
    def log(self) -> EventLog:
        return EventLog(self.registers, REGISTERS[1], self.logs)

    def in_step(self, name: str) -> bool:
        register = next(register for register in REGISTERS if register.name == name)
        return EventLog(self.registers, register, self.logs).verify().in_step


def is_mounted(place: Path) -> bool:
    return f" {place} " in Path("/proc/self/mounts").read_text()


def serve(place: Path) -> Mounted:
    """Start the command in ``place`` and wait until it has mounted."""
    assert Path("/dev/fuse").exists(), "there is no /dev/fuse: modprobe fuse"
    assert ctypes.util.find_library("fuse3") or ctypes.util.find_library("fuse"), "FUSE is missing: apt install fuse3"
    assert importlib.util.find_spec("mfusepy"), "mfusepy is missing: pip install 'imarium[fuse]'"
    assert os.geteuid() == 0 or shutil.which("fusermount3"), "fusermount3 is missing: apt install fuse3"
    path, root, logs = place / "registers", place / "mount", place / "logs"
    root.mkdir(exist_ok=True)
    registers = FileRegisters(path) if path.exists() else FileRegisters.create(path, REGISTERS)
    command = [sys.executable, "-m", "imarium", "registers", "mount", str(root), "--provider", f"file:{path}"]
    process = subprocess.Popen([*command, "--log", str(logs)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    if not said.startswith("mounted"):
        process.kill()
        process.wait()
        raise AssertionError(said + process.stderr.read())
    return Mounted(root, process, registers, logs)


def stop(mounted: Mounted, number: int = signal.SIGTERM) -> int:
    """End the process by its id; its status."""
    if mounted.process.poll() is None:
        mounted.process.send_signal(number)
    status = mounted.process.wait(timeout=60)
    assert mounted.process.stderr is not None
    mounted.process.stderr.close()
    return status


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    mounted = serve(tmp_path_factory.mktemp("tree"))
    yield mounted
    assert stop(mounted) == 0
    assert not is_mounted(mounted.root)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mounted]:
    mounted = serve(tmp_path)
    yield mounted
    stop(mounted)
    if is_mounted(mounted.root):
        subprocess.run(["umount", "-l", mounted.root], check=True)


def shell(mounted: Mounted, script: str) -> subprocess.CompletedProcess[bytes]:
    place = mounted.root / "software"
    return subprocess.run(["sh", "-c", script], cwd=place, capture_output=True, check=False, env={"PATH": os.defpath})


def write(path: Path, data: bytes, *, offset: int = 0, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_WRONLY | flags)
    try:
        return os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def refused(number: int, path: Path, data: bytes, *, offset: int = 0) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        write(path, data, offset=offset)
    assert raised.value.errno == number, raised.value


def test_names_and_modes(shared: Mounted) -> None:
    listed = shell(shared, "find . -type f -printf '%m %s %P\\n' | sort -k3 | grep -v event_log").stdout.decode()
    assert listed.splitlines() == [
        "200 0 both/append_event",
        "644 32 both/digest",
        "444 6 both/hash_algo",
        "200 0 events/append_event",
        "444 48 events/digest",
        "444 6 events/hash_algo",
        "444 16 fixed",
        "644 16 stored",
    ]
    assert shell(shared, "find . -type d | sort").stdout == b".\n./both\n./events\n"


def test_hash_algo_has_no_newline(shared: Mounted) -> None:
    assert shell(shared, "cat both/hash_algo events/hash_algo").stdout == b"sha256sha384"


def test_a_static_register_is_a_file_of_raw_bytes_that_root_cannot_write(shared: Mounted) -> None:
    assert (shared.root / "software" / "fixed").read_bytes() == bytes(16)
    refused(errno.EACCES, shared.root / "software" / "fixed", bytes(16))


def test_without_x_a_write_stores(shared: Mounted) -> None:
    stored = shared.root / "software" / "stored"
    assert shell(shared, "printf 0123456789abcdef > stored").returncode == 0
    assert stored.read_bytes() == b"0123456789abcdef" == shared.value("stored")
    for wrong in (b"short", b"x" * 17):
        refused(errno.EINVAL, stored, wrong)
    assert stored.read_bytes() == b"0123456789abcdef"


def test_with_x_and_w_a_write_extends_and_is_noted(shared: Mounted) -> None:
    old = (shared.both / "digest").read_bytes()
    assert shell(shared, "head -c 32 /dev/zero | tr '\\0' x | dd of=both/digest bs=32 iflag=fullblock").returncode == 0
    assert (shared.both / "digest").read_bytes() == SHA256.digest(old + b"x" * 32)
    assert shell(shared, "tail -n 1 both/event_log").stdout == b"# .EXTEND " + (b"x" * 32).hex().encode() + b"\n"
    assert not shared.in_step("both")
    assert shell(shared, "echo again > both/append_event").returncode == 0
    assert shared.in_step("both")


@pytest.mark.parametrize(("size", "offset"), [(31, 0), (33, 0), (64, 0), (32, 1), (32, 32), (200_000, 0)])
def test_a_digest_goes_in_one_write_of_its_size_at_offset_0(shared: Mounted, size: int, offset: int) -> None:
    before = shared.value("both")
    refused(errno.EINVAL, shared.both / "digest", bytes(size), offset=offset)
    assert shared.value("both") == before


def test_without_w_a_digest_cannot_be_written_even_by_root(shared: Mounted) -> None:
    refused(errno.EACCES, shared.events / "digest", bytes(48))
    assert b"denied" in shell(shared, "head -c 48 /dev/zero > events/digest").stderr


def test_the_other_files_are_read_only_or_write_only(shared: Mounted) -> None:
    refused(errno.EACCES, shared.both / "hash_algo", b"x")
    refused(errno.EACCES, shared.both / "event_log", b"x")
    for flags in (os.O_RDONLY, os.O_RDWR):
        with pytest.raises(PermissionError):
            os.open(shared.both / "append_event", flags)


def test_text_is_split_trimmed_logged_and_extended(own: Mounted) -> None:
    assert shell(own, r"printf '  one\t\r\n\r# note\n\n two words \n' > events/append_event").returncode == 0
    sync = b"SYNC sha384/" + b"00" * 48
    assert (own.events / "event_log").read_bytes() == sync + b"\none\n# note\ntwo words\n"
    value = bytes(48)
    for line in (sync, b"one", b"two words"):
        value = SHA384.digest(value + SHA384.digest(line))
    assert (own.events / "digest").read_bytes() == value


def test_each_write_of_a_shell_is_one_append(own: Mounted) -> None:
    assert shell(own, "{ echo one; echo two; } > events/append_event; echo three >> events/append_event").stderr == b""
    assert (own.events / "event_log").read_bytes().split(b"\n")[1:] == [b"one", b"", b"two", b"", b"three", b""]
    assert own.in_step("events")


def test_empty_text_does_nothing(own: Mounted) -> None:
    write(own.events / "append_event", b" \n\r\n")
    assert (own.events / "event_log").read_bytes() == b""
    assert own.value("events") == bytes(48)


def test_a_page_of_text_is_taken_whole_and_no_more(own: Mounted) -> None:
    text = b"x" * (PAGE - 1) + b"y"
    assert write(own.events / "append_event", text) == PAGE
    assert (own.events / "event_log").read_bytes().endswith(b"\n" + text + b"\n")
    before = own.value("events")
    for size in (PAGE + 1, 200_000):
        refused(errno.E2BIG, own.events / "append_event", b"x" * size)
    refused(errno.EINVAL, own.events / "append_event", b"a\0b")
    assert own.value("events") == before
    assert own.in_step("events")


def test_digest_and_log_are_new_at_each_open(own: Mounted) -> None:
    seen = set()
    for number in range(5):
        write(own.events / "append_event", b"event %d" % number)
        seen.add((own.events / "digest").read_bytes())
        assert (own.events / "digest").read_bytes() == own.value("events")
        assert shell(own, "tail -n 1 events/event_log").stdout == b"event %d\n" % number
        assert (own.events / "event_log").stat().st_size == len((own.events / "event_log").read_bytes())
    assert len(seen) == 5


def test_the_size_of_the_log_is_never_an_old_one(own: Mounted) -> None:
    """Else tail, which seeks from the end, shows what was the end a second ago."""
    log, text = own.events / "event_log", b"x" * PAGE
    for number in range(1, 5):
        write(own.events / "append_event", text)
        assert log.stat().st_size > number * PAGE
        EventLog(own.registers, REGISTERS[1], own.logs).append(b"last %d" % number)
        assert shell(own, "tail -c 7 events/event_log").stdout == b"last %d\n" % number


def test_reads_are_as_of_open(own: Mounted) -> None:
    write(own.events / "append_event", b"one")
    with (own.events / "event_log").open("rb", buffering=0) as log, (own.events / "digest").open("rb", 0) as digest:
        before, value = (own.events / "event_log").read_bytes(), own.value("events")
        write(own.events / "append_event", b"two")
        assert log.read(1 << 16) == before
        assert log.read(1 << 16) == b""
        assert digest.read(100) == value
    assert (own.events / "event_log").read_bytes() == before + b"\ntwo\n"


def test_a_descriptor_that_extends_reads_the_new_value(own: Mounted) -> None:
    descriptor = os.open(own.both / "digest", os.O_RDWR)
    try:
        os.pwrite(descriptor, bytes(32), 0)
        assert os.pread(descriptor, 100, 0) == SHA256.digest(bytes(64))
    finally:
        os.close(descriptor)


def test_a_log_of_many_pages_is_read_whole(own: Mounted) -> None:
    for _ in range(80):
        write(own.events / "append_event", b"x" * PAGE)
    log = (own.events / "event_log").read_bytes()
    assert log.count(b"x" * PAGE + b"\n") == 80
    assert shell(own, "wc -c < events/event_log").stdout.strip() == b"%d" % len(log)
    assert shell(own, "grep -c xxx events/event_log").stdout == b"80\n"


def test_names_modes_and_owners_are_fixed(shared: Mounted) -> None:
    for command in ("mkdir x", "touch x", "rm fixed", "mv fixed x", "ln -s x y", "rmdir both", "chmod 666 fixed"):
        done = shell(shared, command)
        assert done.returncode != 0, command
        refusal = b"denied" if command == "touch x" else b"not permitted"
        assert refusal in done.stderr, (command, done.stderr)
    assert shell(shared, "cat none").stderr.endswith(b"No such file or directory\n")


def test_the_command_line_and_the_tree_share_log_and_lock(own: Mounted) -> None:
    write(own.events / "append_event", b"from the tree")
    command = [sys.executable, "-m", "imarium", "registers", "append", "events", "from the command"]
    command += ["--provider", f"file:{own.registers.path}", "--log", str(own.logs)]
    subprocess.run(command, check=True, capture_output=True)
    assert (own.events / "event_log").read_bytes().endswith(b"\nfrom the tree\n\nfrom the command\n")
    assert (own.events / "digest").read_bytes() == own.value("events")
    assert own.in_step("events")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(own: Mounted, number: int) -> None:
    assert stop(own, number) == 0
    assert not is_mounted(own.root)


def test_unmounting_ends_the_command(own: Mounted) -> None:
    subprocess.run(["umount", own.root], check=True)
    assert own.process.wait(timeout=60) == 0


def has_grown(path: Path, size: int) -> bool:
    """Whether a log has several events more than when it had this size."""
    return path.exists() and path.stat().st_size > size + 500


def test_a_tree_killed_in_the_middle_leaves_a_log_that_heals(tmp_path: Path) -> None:
    for turn in range(3):
        mounted = serve(tmp_path)
        size = mounted.log.path.stat().st_size if turn else 0
        pace = "dd if=/dev/zero bs=64 count=1 2>/dev/null | tr '\\0' e"
        writer = subprocess.Popen(
            ["sh", "-c", f"while {pace} > software/events/append_event; do :; done"],
            cwd=mounted.root,
            stderr=subprocess.DEVNULL,
        )
        until(partial(has_grown, mounted.log.path, size))
        time.sleep(turn / 10)
        stop(mounted, signal.SIGKILL)
        writer.wait(timeout=60)
        subprocess.run(["umount", "-l", mounted.root], check=True)
        assert mounted.log.settled_size() > size
        assert mounted.log.verify().in_step


def test_a_place_that_is_no_directory_is_told(tmp_path: Path) -> None:
    FileRegisters.create(tmp_path / "r")
    command = [sys.executable, "-m", "imarium", "registers", "mount", str(tmp_path / "none")]
    done = subprocess.run(
        [*command, "--provider", f"file:{tmp_path / 'r'}"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
