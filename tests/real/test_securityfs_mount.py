"""The engine's files through FUSE: with the project's own client, while measurements arrive, and long lists."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from imarium.engine import Event, Measurement, MeasurementQueue, PolicyFile, event_data, find_template
from imarium.formats import IMA_PCR, ListForm, ListLayout, read_list
from imarium.fuse import mounted
from imarium.hashes import SHA1, SHA256
from imarium.securityfs import (
    AlreadyStaged,
    ImaDirectory,
    ListBusy,
    MeasuringSuspended,
    NothingToDelete,
    NothingToStage,
    WriteNotPermitted,
)
from imarium.securityfs.tree import ImaTree

TEMPLATE = find_template("ima-sig")


@dataclass
class Served:
    """A mounted queue."""

    root: Path
    queue: MeasurementQueue
    measured: int = 0

    def measure(self, count: int = 1) -> None:
        for _ in range(count):
            event = Event(b"/file %d" % self.measured, SHA256, SHA256.digest(b"%d" % self.measured))
            self.queue.add(Measurement(IMA_PCR, TEMPLATE, event_data(TEMPLATE, event, "little")))
            self.measured += 1

    def client(self, patience: float = 0.0) -> ImaDirectory:
        return ImaDirectory(self.root, patience=patience)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    queue, root = MeasurementQueue(), tmp_path / "ima"
    root.mkdir()
    with mounted(ImaTree(queue, [SHA256], PolicyFile()), root, fsname="imarium-test", allow_other=True):
        yield Served(root, queue)


def names(content: bytes) -> list[bytes]:
    return [record.name or b"" for record in read_list([content], ListForm())]


def in_other_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_client_finds_what_a_kernel_has(served):
    served.measure(3)
    client = served.client()
    assert client.algorithms == (SHA1, SHA256)
    assert client.has_staging
    assert client.can_delete()
    assert (client.count(), client.violations()) == (3, 0)
    with client.snapshot(SHA256) as lists:
        assert b"".join(lists.staged()) == b""
        assert b"".join(lists.current()) == (served.root / "binary_runtime_measurements_sha256").read_bytes()


def test_the_client_stages_deletes_and_is_told_what_is_not_there(served):
    client = served.client()
    for refused, error in ((client.stage, NothingToStage), (client.delete_staged, NothingToDelete)):
        with pytest.raises(error):
            refused()
    served.measure(4)
    client.delete(1)
    client.stage()
    served.measure(1)
    with pytest.raises(AlreadyStaged):
        client.stage()
    with pytest.raises(NothingToDelete):
        client.delete(2)
    with client.hold() as held:
        assert names(b"".join(held.staged())) == [b"/file_%d" % number for number in (1, 2, 3)]
        assert names(b"".join(held.current())) == [b"/file_4"]
        held.delete_staged()
        held.stage()
    served.queue.suspend()
    with pytest.raises(MeasuringSuspended):
        client.delete_staged()


def test_times_and_modes_can_be_changed_one_by_one(served):
    path = served.root / "violations"
    before = path.stat()
    subprocess.run(["touch", "-m", "-d", "@1000", str(path)], check=True)
    assert (path.stat().st_mtime, path.stat().st_atime) == (1000, before.st_atime)
    subprocess.run(["touch", "-a", "-d", "@2000", str(path)], check=True)
    assert (path.stat().st_mtime, path.stat().st_atime) == (1000, 2000)
    subprocess.run(["touch", str(path)], check=True)
    assert path.stat().st_mtime >= before.st_mtime
    subprocess.run(["chgrp", "7", str(path)], check=True)
    subprocess.run(["chmod", "o+r", str(path)], check=True)
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o7777) == (before.st_uid, 7, 0o444)


def test_others_are_kept_out_while_one_holds(served):
    script = "import sys; from pathlib import Path; from imarium.securityfs import ImaDirectory\n"
    script += "with ImaDirectory(Path(sys.argv[1]), patience=0).{}() as lists: print(len(b''.join(lists.current())))"
    served.measure(1)
    for ours in ("hold", "snapshot"):
        with getattr(served.client(), ours)():
            for theirs in ("hold", "snapshot"):
                done = in_other_process(script.format(theirs), str(served.root))
                shared = ours == theirs == "snapshot"
                assert (done.returncode == 0) == shared, (ours, theirs, done.stderr)
                assert shared or ListBusy.__name__ in done.stderr
    with pytest.raises(ListBusy), served.client().snapshot(), served.client().hold():
        raise AssertionError("got in")


def test_who_has_no_capability_may_read_and_not_stage(served):
    served.measure(1)
    script = "import os, sys; os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(0); os.setuid(1000)\n"
    script += "from pathlib import Path; from imarium.securityfs import ImaDirectory\n"
    script += "client = ImaDirectory(Path('.'), patience=0); print(client.count(), client.can_delete()); client.stage()"
    done = in_other_process(script, str(served.root))
    assert done.stdout == "1 False\n", done.stderr
    assert WriteNotPermitted.__name__ in done.stderr


def test_no_record_is_lost_or_doubled_while_measured_read_and_drained_at_once(served):
    """Two measure, two read, and two drain, with ``A`` and ``D`` and by number, keeping all."""
    total, drained = 4000, []
    done = threading.Event()
    lock = threading.Lock()

    def measure():
        while not done.is_set():
            with lock:
                if served.measured >= total:
                    return
                served.measure()

    def read():
        client = served.client(patience=60.0)
        while not done.is_set():
            with client.snapshot(SHA256) as lists:
                list(read_list(lists.current(), ListForm(layout=ListLayout(SHA256))))
            time.sleep(0.01)  # readers that are never away keep writers out for good

    def drain(turn):
        client = served.client(patience=60.0)
        while not done.is_set():
            with client.hold() as held:
                if turn:
                    content = b"".join(held.current())
                    if found := names(content):
                        held.delete(len(found))
                    drained.extend(found)
                elif served.queue.counts.current:
                    held.stage()
                    drained.extend(names(b"".join(held.staged())))
                    held.delete_staged()
            time.sleep(0.002)

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(task) for task in (measure, measure, read, read, lambda: drain(0), lambda: drain(1))]
        while len(drained) < total and not any(task.done() and task.exception() for task in work):
            time.sleep(0.05)
        done.set()
        for task in work:
            task.result()
    assert drained == [b"/file_%d" % number for number in range(total)]


def test_a_long_list_is_read_whole_by_every_tool(served, tmp_path):
    served.measure(20_000)
    path = served.root / "ascii_runtime_measurements"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 20_000
    for script, expected in {
        "wc -l < LIST": b"20000",
        "tail -c 30 LIST": lines[-1][-30:],
        "tail -n 1 LIST": lines[-1],
        "sed -n 12345p LIST": lines[12344],
        "dd if=LIST bs=3000 skip=100 count=2 status=none iflag=fullblock": b"".join(lines)[300_000:306_000],
        f"cp LIST {tmp_path}/copy && cmp LIST {tmp_path}/copy && echo same": b"same",
        "sha256sum < LIST": SHA256.digest(b"".join(lines)).hex().encode() + b"  -",
    }.items():
        done = subprocess.run(["sh", "-c", script.replace("LIST", str(path))], capture_output=True, check=True)
        assert done.stdout.rstrip(b"\n") == expected.rstrip(b"\n"), script


@pytest.mark.parametrize("staged", [False, True])
def test_reading_and_measuring_go_on_beside_each_other(served, staged):
    """A reader that takes its time holds nobody up but those who would delete, of either list."""
    served.measure(2000)
    if staged:
        served.client().stage()
    descriptor = os.open(served.root / f"binary_runtime_measurements_sha1{'_staged' if staged else ''}", os.O_RDONLY)
    start = os.read(descriptor, 100)
    served.measure(500)
    with pytest.raises(ListBusy):
        served.client().delete_staged()
    rest = []
    while part := os.read(descriptor, 1 << 17):
        rest.append(part)
    os.close(descriptor)
    assert len(names(start + b"".join(rest))) == (2000 if staged else 2500)


def test_readers_do_not_wait_for_a_slow_root_of_trust(tmp_path):
    """Each record is extended under the queue's lock, and a TPM takes its time."""
    root, extending, done = tmp_path / "ima", threading.Event(), threading.Event()
    root.mkdir()

    def extend(_number, _measurement):
        if extending.is_set():
            done.wait(60)

    served = Served(root, MeasurementQueue(anchor=extend))
    with mounted(ImaTree(served.queue, [SHA256], PolicyFile()), root, fsname="imarium-test"):
        served.measure(2000)
        extending.set()
        measuring = threading.Thread(target=served.measure)
        measuring.start()
        while len(served.queue.current) < 2001:
            time.sleep(0.01)
        assert len(names((root / "binary_runtime_measurements_sha1").read_bytes())) == 2001
        assert (root / "runtime_measurements_count").read_bytes() == b"2001\n"
        assert measuring.is_alive()
        done.set()
        measuring.join()
        assert len(names((root / "binary_runtime_measurements_sha1").read_bytes())) == 2001
