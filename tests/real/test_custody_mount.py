"""The whole list, mounted, beside a custody that drains it: real FUSE, real processes, real readers of such lists."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from keylime.common.algorithms import Hash
from keylime.ima import ast
from tests.real.evmctl import evmctl
from tests.real.list_readers import BOOT, seen_names
from tests.real.running_engine import start_engine
from tests.unit.custody_files import FileKernel
from tests.unit.custody_kernel import LAYOUT, record, violation
from tests.waiting import PATIENCE

from imarium.chain import replay
from imarium.custody import Keeper, Method, Store
from imarium.custody.machine import boot_id
from imarium.formats.records import ListLayout
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from imarium.securityfs import ImaDirectory

PROJECT = Path(__file__).resolve().parents[2]
PROCESS = [sys.executable, "-m", "tests.real.list_readers"]
DRAINS = 1000
TURNS = 300
METHODS: tuple[Method, ...] = ("prompt", "trim")
BANKS = {SHA1: Hash.SHA1, SHA256: Hash.SHA256}


class Mounted:
    """A kernel, its store, and the whole list mounted by a process of its own."""

    def __init__(self, place: Path) -> None:
        self.kernel = FileKernel(place / "kernel", patience=PATIENCE)
        self.store, self.root = place / "store", place / "mount"
        self.root.mkdir()
        self.stop = place / "stop"
        self._serving = subprocess.Popen(
            [*PROCESS, "mount", str(place / "kernel"), str(self.store), str(self.root)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        assert self._serving.stderr is not None
        said = self._serving.stderr.readline()
        assert said == "mounted\n", said + self._serving.stderr.read()
        self.measured: list[bytes] = []

    def measure(self, *names: str) -> None:
        self.kernel.measure(*names)
        self.measured += [name.encode() for name in names]

    def drain(self) -> None:
        result = Keeper(Store(self.store, create=True), self.kernel, boot_id=BOOT).once("prompt")
        assert (result.verdict, result.log) == ("unproven", 0), result

    def close(self) -> None:
        self._serving.send_signal(signal.SIGTERM)
        status = self._serving.wait(timeout=PATIENCE)
        assert self._serving.stderr is not None
        said = self._serving.stderr.read()
        self._serving.stderr.close()
        assert (status, said) == (0, "")
        assert not os.path.ismount(self.root)


def watch(path: Path, stop: Path) -> "subprocess.Popen[str]":
    """A process that reads a list until ``stop`` is there, and fails if it ever sees it otherwise than longer."""
    command = [*PROCESS, "watch", str(path), str(stop)]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "reading\n"
    return watcher


def told(watcher: "subprocess.Popen[str]") -> dict[str, Any]:
    """What a process of :func:`watch` saw."""
    out, err = watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 0, err
    return dict(json.loads(out))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    mounted = Mounted(tmp_path)
    yield mounted
    mounted.close()


def test_readers_of_three_forms_during_drains_see_each_record_once_and_in_order(mounted: Mounted) -> None:
    mounted.measure("boot_aggregate")
    names = ("ascii_runtime_measurements", "ascii_runtime_measurements_sha256", "binary_runtime_measurements_sha512")
    watchers = [watch(mounted.root / name, mounted.stop) for name in names]
    for number in range(TURNS):
        mounted.measure(f"/program-{number}")
        mounted.drain()
        mounted.measure(f"/between-{number}")
    mounted.stop.touch()
    seen = [told(watcher) for watcher in watchers]
    print([(found["reads"], found["grown"]) for found in seen])
    assert all(found["grown"] > TURNS / 50 for found in seen)
    for found in seen[:2]:
        assert seen_names(bytes.fromhex(found["data"])) == mounted.measured
    binary = replay([bytes.fromhex(seen[2]["data"])], ListLayout(SHA512))
    assert (binary.records, binary.bad_digests) == (len(mounted.measured), ())


def test_a_reader_during_a_thousand_drains_of_an_engine_sees_each_record_once_and_in_order(tmp_path: Path) -> None:
    """An engine behind the kernel's interface, and the command that shows the whole list: nothing of it is made up."""
    watched, root, store, stop, made = (tmp_path / name for name in ("watched", "mount", "store", "stop", "made"))
    for directory in (watched, root):
        directory.mkdir()
    with ExitStack() as stack:
        engine = start_engine(tmp_path, "--rot", "none", "--watch", watched)
        stack.callback(engine.end)
        shown = serve_list(engine.root, store, root)
        stack.callback(end, shown)
        watcher = watch(root / "ascii_runtime_measurements_sha256", stop)
        stack.callback(watcher.kill)
        source = ImaDirectory(engine.root, patience=30.0)
        keeper = Keeper(Store(store, create=True), source, boot_id=boot_id())
        methods = cycle(METHODS)
        for number in range(DRAINS):
            made.write_text(str(number))
            made.rename(watched / f"file-{number}").read_text()
            assert keeper.once(next(methods)).verdict == "unproven"
        stop.touch()
        seen = told(watcher)
    names = [name.rpartition(b"/")[2] for name in seen_names(bytes.fromhex(seen["data"]))]
    print(seen["reads"], seen["grown"])
    assert [name for name in names if name.startswith(b"file-")] == [b"file-%d" % number for number in range(DRAINS)]
    assert len(names) == len(set(names))
    assert Store(store).log().records == len(names)
    assert seen["grown"] > DRAINS / 50


def serve_list(source: Path, store: Path, root: Path) -> "subprocess.Popen[str]":
    """``imarium log mount``, once it has mounted."""
    command = [sys.executable, "-m", "imarium", "log", "mount", str(root), "--source", str(source)]
    process = subprocess.Popen([*command, "--store", str(store)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("mounted at"), said + process.stderr.read()
    return process


def end(process: "subprocess.Popen[str]") -> None:
    """End a process by its id; it must have ended well."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")


def registers(data: bytes) -> dict[HashAlgorithm, bytes]:
    """PCR 10 after a list, in the banks of :data:`BANKS`."""
    state = replay([data], LAYOUT).state
    return {bank: state.value(IMA_PCR, bank) for bank in BANKS}


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mounted, bytes]]:
    """A list of which a part is kept, a part is staged and a part is current; and its bytes."""
    mounted = Mounted(tmp_path_factory.mktemp("drained"))
    mounted.measure("boot_aggregate", *(f"/kept-{number}" for number in range(500)))
    mounted.kernel.add(violation("/open"))
    mounted.drain()
    mounted.measure("/staged")
    mounted.kernel.stage()
    mounted.measure("/current")
    kept = (mounted.store / "logs/0000/list").read_bytes()
    yield mounted, kept + record("/staged") + record("/current")
    mounted.close()


def test_the_files_are_the_kernels(drained: tuple[Mounted, bytes]) -> None:
    mounted, data = drained
    modes = sorted(stat.filemode(path.lstat().st_mode) for path in mounted.root.iterdir())
    assert modes == ["-r--r-----"] * 8 + ["lrwxrwxrwx"] * 2
    assert (mounted.root / "binary_runtime_measurements").read_bytes() == data
    assert (mounted.root / "binary_runtime_measurements_sha1").read_bytes() == data
    assert (mounted.root / "runtime_measurements_count").read_bytes() == b"504\n"
    assert (mounted.root / "violations").read_bytes() == b"1\n"


@pytest.mark.parametrize("name", ["ascii_runtime_measurements_sha512", "binary_runtime_measurements_sha256"])
def test_any_offset_can_be_read(drained: tuple[Mounted, bytes], name: str) -> None:
    path = drained[0].root / name
    whole = path.read_bytes()
    with path.open("rb", buffering=0) as file:
        for offset in (len(whole) - 7, 0, 12_345, len(whole) // 2, 1, len(whole) + 5):
            assert os.pread(file.fileno(), 300, offset) == whole[offset : offset + 300]
    skipped = subprocess.run(["tail", "-c", "+30001", path], capture_output=True, check=True).stdout
    assert skipped == whole[30_000:]
    assert (
        subprocess.run(["tail", "-n", "1", path], capture_output=True, check=True).stdout
        == whole[whole[:-1].rfind(b"\n") + 1 :]
    )


def test_no_one_may_write(drained: tuple[Mounted, bytes]) -> None:
    root = drained[0].root
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(PermissionError):
            os.open(root / "binary_runtime_measurements", flags)
    with pytest.raises(PermissionError):
        (root / "new").touch()
    with pytest.raises(PermissionError):
        (root / "violations").unlink()


def test_evmctl_takes_it_for_the_real_thing(drained: tuple[Mounted, bytes], tmp_path: Path) -> None:
    mounted, data = drained
    values = registers(data)
    path = mounted.root / "binary_runtime_measurements"
    assert evmctl(path, values, tmp_path) == 0
    values[SHA256] = bytes(32)
    assert evmctl(path, values, tmp_path) != 0


@pytest.mark.parametrize("bank", BANKS, ids=lambda bank: bank.name)
def test_keylime_reads_every_line_and_reaches_the_register(drained: tuple[Mounted, bytes], bank: HashAlgorithm) -> None:
    mounted, data = drained
    running = bytes(bank.size)
    lines = (mounted.root / f"ascii_runtime_measurements_{bank.name}").read_text().splitlines()
    for line in lines:
        entry = ast.Entry(line, ima_hash_alg=BANKS[bank], pcr_hash_alg=BANKS[bank])
        assert entry.ima_template_hash == entry.pcr_template_hash, line
        running = bank.digest(running + entry.pcr_template_hash)
    assert len(lines) == 504
    assert running == registers(data)[bank]


def test_the_command_mounts_and_says_what_it_shows(tmp_path: Path) -> None:
    source, root = tmp_path / "ima", tmp_path / "mount"
    source.mkdir()
    root.mkdir()
    data = record("boot_aggregate") + record("/a")
    (source / "binary_runtime_measurements").write_bytes(data)
    command = [sys.executable, "-m", "imarium", "log", "mount", str(root), "--source", str(source), "--bank", "sha384"]
    with subprocess.Popen([*command, "--store", str(tmp_path / "store")], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == f"mounted at {root}: 2 records; interrupt to unmount\n"
            assert (root / "binary_runtime_measurements").read_bytes() == data
            assert (root / "ascii_runtime_measurements_sha384").read_bytes().count(b"\n") == 2
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0


def test_a_place_that_is_not_there_is_told_before_the_list_is_looked_at(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imarium", "log", "mount", str(tmp_path / "mount"), "--source", str(tmp_path)]
    done = subprocess.run([*command, "--store", str(tmp_path / "store")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, f"imarium: {tmp_path}/mount: not a directory; make it first\n")


def test_a_list_that_cannot_be_read_is_told_before_anything_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "binary_runtime_measurements").write_bytes(record("boot_aggregate")[:-1])
    (tmp_path / "mount").mkdir()
    command = [sys.executable, "-m", "imarium", "log", "mount", str(tmp_path / "mount"), "--source", str(tmp_path)]
    done = subprocess.run([*command, "--store", str(tmp_path / "store")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert done.stderr.startswith("imarium: record 0 at byte 0: expected a record of at least")
