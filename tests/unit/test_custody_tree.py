"""The whole list as the kernel's files: names, modes, numbers, and what is refused."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.custody_kernel import LAYOUT, Kernel, records, violation

from imarium.custody import Keeper, Store, View
from imarium.custody.tree import ListTree
from imarium.formats.records import Record, encode_record
from imarium.formats.registers import IMA_PCR
from imarium.formats.templates import template
from imarium.fuse import TreeError
from imarium.hashes import SHA256
from imarium.securityfs import ListBusy

NAMES = [
    "ascii_runtime_measurements",
    "ascii_runtime_measurements_sha1",
    "ascii_runtime_measurements_sha256",
    "binary_runtime_measurements",
    "binary_runtime_measurements_sha1",
    "binary_runtime_measurements_sha256",
    "runtime_measurements_count",
    "violations",
]


@pytest.fixture
def kernel() -> Kernel:
    kernel = Kernel()
    kernel.boot()
    kernel.measure("/a")
    return kernel


@pytest.fixture
def tree(tmp_path: Path, kernel: Kernel) -> ListTree:
    view = View(tmp_path / "store", kernel, boot_id="boot", registers=kernel.registers)
    return ListTree(view, [SHA256])


def content(tree: ListTree, name: str) -> bytes:
    return tree.open(f"/{name}", os.O_RDONLY).read(0, 1 << 20)


def refused(number: int, action: Callable[[], object]) -> None:
    with pytest.raises(TreeError) as raised:
        action()
    assert raised.value.number == number


def test_the_names_and_modes_are_the_kernels(tree: ListTree) -> None:
    assert tree.names("/") == NAMES
    assert tree.attributes("/").is_directory
    for name in NAMES:
        found = tree.attributes(f"/{name}")
        if name.endswith("_measurements"):
            assert stat.S_ISLNK(found.mode)
            assert tree.readlink(f"/{name}") == f"{name}_sha1"
        else:
            assert (found.mode, found.size) == (stat.S_IFREG | 0o440, None)


def test_numbers_are_of_the_whole_list(tree: ListTree, kernel: Kernel, tmp_path: Path) -> None:
    assert content(tree, "runtime_measurements_count") == b"2\n"
    Keeper(Store(tmp_path / "store", create=True), kernel, boot_id="boot", registers=kernel.registers).once()
    kernel.measure("/b")
    assert content(tree, "runtime_measurements_count") == b"3\n"
    assert content(tree, "violations") == b"0\n"
    for _ in range(2):
        kernel.current_list += violation("/open")
        before = int(content(tree, "violations"))
        assert content(tree, "violations") == b"%d\n" % before
    assert content(tree, "violations") == b"2\n"
    assert content(tree, "runtime_measurements_count") == b"5\n"


def test_the_kernels_own_count_of_violations_is_passed_on(tmp_path: Path, kernel: Kernel) -> None:
    view = View(tmp_path / "store", kernel, boot_id="boot")
    assert content(ListTree(view, [], violations=lambda: 7), "violations") == b"7\n"


def test_an_open_list_is_read_on_when_it_grows_and_ends_with_its_life(tree: ListTree, kernel: Kernel) -> None:
    opened = tree.open("/binary_runtime_measurements", os.O_RDONLY)
    text = tree.open("/ascii_runtime_measurements_sha256", os.O_RDONLY)
    first, lines = opened.read(0, 1 << 20), text.read(0, 1 << 20)
    assert first == records("boot_aggregate", "/a")
    assert opened.read(len(first), 100) == b""
    kernel.measure("/b")
    assert first + opened.read(len(first), 1 << 20) == records("boot_aggregate", "/a", "/b")
    assert (lines + text.read(len(lines), 1 << 20)).count(b"\n") == 3
    kernel.boot()
    assert opened.read(len(kernel.current_list) * 3, 100) == b""
    assert content(tree, "binary_runtime_measurements") == records("boot_aggregate")


def test_what_is_not_there_and_what_may_not_be_done(tree: ListTree) -> None:
    refused(errno.ENOENT, lambda: tree.attributes("/none"))
    refused(errno.ENOENT, lambda: tree.open("/binary_runtime_measurements_sha512", os.O_RDONLY))
    refused(errno.ENOENT, lambda: tree.attributes("/violations/none"))
    refused(errno.ENOTDIR, lambda: tree.names("/violations"))
    refused(errno.EISDIR, lambda: tree.open("/", os.O_RDONLY))
    refused(errno.EINVAL, lambda: tree.readlink("/violations"))
    refused(errno.EACCES, lambda: tree.truncate("/violations", 0))
    refused(errno.EACCES, lambda: tree.open("/binary_runtime_measurements_sha1", os.O_WRONLY))
    refused(errno.EACCES, lambda: tree.open("/binary_runtime_measurements_sha1", os.O_RDWR))
    refused(errno.EBADF, lambda: tree.open("/violations", os.O_RDONLY).write(0, b"x"))


def test_errors_have_the_numbers_of_system_calls(
    tree: ListTree, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = kernel.current_list
    kernel.current_list = good[:-1]
    refused(errno.EIO, lambda: tree.open("/ascii_runtime_measurements", os.O_RDONLY))

    def held() -> None:
        raise ListBusy("held")

    monkeypatch.setattr(kernel, "snapshot", held)
    refused(errno.EBUSY, lambda: tree.open("/runtime_measurements_count", os.O_RDONLY))


def test_a_record_that_text_cannot_show_is_an_error_there_and_bytes_elsewhere(tree: ListTree, kernel: Kernel) -> None:
    found = template(b"ima-ng")
    assert found is not None
    data = b"\xff\xff\xff\xff"
    digest = LAYOUT.template_digest(found, data)
    kernel.current_list += encode_record(Record(0, 0, IMA_PCR, digest, found, data, LAYOUT))
    assert content(tree, "binary_runtime_measurements") == kernel.current_list
    text = tree.open("/ascii_runtime_measurements", os.O_RDONLY)
    for _ in range(2):
        refused(errno.EIO, lambda: text.read(0, 1 << 20))
    assert text.read(0, 50).startswith(b"10 ")
