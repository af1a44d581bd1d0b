"""The tree of registers, without FUSE: names, modes, sizes, and what reads and writes do."""

import errno
import os
import stat

import pytest

from imarium import hashes
from imarium.fuse import TreeError
from imarium.registers import Access, LoggedProvider, MemoryRegisters, Register, RegisterBusy, RegisterTree
from imarium.registers.errors import RegisterUnavailable
from imarium.registers.text import PAGE

SHA256, SHA384 = hashes.SHA256, hashes.SHA384
REGISTERS = [
    Register("both", 32, SHA256, Access.RTMR | Access.W),
    Register("events", 48, SHA384, Access.RTMR),
    Register("twice", 32, SHA256, Access.RTMR),
    Register("twice", 48, SHA384, Access.R),
    Register("stored", 16, None, Access.R | Access.W),
    Register("fixed", 16, None, Access.R),
    Register("secret", 32, SHA256, Access.X | Access.W),
]
BOTH = REGISTERS[0]


@pytest.fixture
def provider():
    return MemoryRegisters(REGISTERS)


@pytest.fixture
def tree(provider, tmp_path):
    return RegisterTree([LoggedProvider(provider, tmp_path / "logs")])


def failing(number, operation, *arguments):
    with pytest.raises(TreeError) as raised:
        operation(*arguments)
    assert raised.value.number == number, errno.errorcode[raised.value.number]


def content(tree, path):
    return tree.open(path, os.O_RDONLY).read(0, 1 << 20)


def write(tree, path, data, offset=0):
    return tree.open(path, os.O_WRONLY).write(offset, data)


def test_a_static_register_is_a_file_and_an_extensible_one_a_directory(tree):
    assert tree.names("/") == ["software"]
    assert tree.names("/software") == ["both", "events", "fixed", "secret", "stored", "twice:sha256", "twice:sha384"]
    assert tree.names("/software/both") == ["digest", "hash_algo", "append_event", "event_log"]
    assert not tree.attributes("/software/fixed").is_directory
    assert tree.attributes("/software/both").is_directory


def test_providers_of_one_name_are_told_apart(provider, tmp_path):
    tree = RegisterTree([LoggedProvider(provider, tmp_path / name) for name in "ab"])
    assert tree.names("/") == ["software", "software-2"]


@pytest.mark.parametrize(
    ("path", "mode", "size"),
    [
        ("both/digest", 0o644, 32),
        ("events/digest", 0o444, 48),
        ("secret/digest", 0o200, 32),
        ("both/hash_algo", 0o444, 6),
        ("both/append_event", 0o200, 0),
        ("both/event_log", 0o444, 0),
        ("stored", 0o644, 16),
        ("fixed", 0o444, 16),
    ],
)
def test_modes_follow_the_flags(tree, path, mode, size):
    found = tree.attributes(f"/software/{path}")
    assert (stat.S_IMODE(found.mode), stat.S_ISREG(found.mode), found.size) == (mode, True, size)


def test_hash_algo_has_no_newline(tree):
    assert content(tree, "/software/events/hash_algo") == b"sha384"


def test_a_static_file_has_the_raw_value(tree, provider):
    provider.store(REGISTERS[4], b"0123456789abcdef")
    assert content(tree, "/software/stored") == b"0123456789abcdef"
    assert tree.open("/software/stored", os.O_RDONLY).read(4, 3) == b"456"


def test_writing_a_digest_with_x_extends_and_is_noted(tree):
    assert write(tree, "/software/both/digest", b"\7" * 32) == 32
    assert content(tree, "/software/both/digest") == SHA256.digest(bytes(32) + b"\7" * 32)
    assert content(tree, "/software/both/event_log") == b"# .EXTEND " + b"07" * 32 + b"\n"


def test_writing_without_x_stores(tree):
    write(tree, "/software/stored", b"0123456789abcdef")
    assert content(tree, "/software/stored") == b"0123456789abcdef"


@pytest.mark.parametrize(("data", "offset"), [(b"", 0), (bytes(31), 0), (bytes(33), 0), (bytes(32), 1), (bytes(64), 0)])
def test_a_digest_is_written_whole_at_offset_0_or_not_at_all(tree, data, offset):
    failing(errno.EINVAL, write, tree, "/software/both/digest", data, offset)
    assert content(tree, "/software/both/digest") == bytes(32)
    assert content(tree, "/software/both/event_log") == b""


@pytest.mark.parametrize("size", [15, 17])
def test_a_value_is_stored_whole_or_not_at_all(tree, size):
    failing(errno.EINVAL, write, tree, "/software/stored", bytes(size))


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("events/digest", os.O_WRONLY),
        ("events/digest", os.O_RDWR),
        ("fixed", os.O_WRONLY),
        ("both/hash_algo", os.O_WRONLY),
        ("both/event_log", os.O_WRONLY),
        ("both/append_event", os.O_RDONLY),
        ("both/append_event", os.O_RDWR),
        ("secret/digest", os.O_RDONLY),
    ],
)
def test_an_open_that_the_mode_does_not_allow_is_refused_to_root_too(tree, path, flags):
    failing(errno.EACCES, tree.open, f"/software/{path}", flags)


def test_an_append_extends_and_is_in_the_log(tree):
    write(tree, "/software/events/append_event", b"one\n# two\n")
    log = content(tree, "/software/events/event_log")
    assert log == b"SYNC sha384/" + b"00" * 48 + b"\none\n# two\n"
    assert tree.attributes("/software/events/event_log").size == len(log)


def test_each_write_is_an_append_whatever_its_offset(tree):
    handle = tree.open("/software/events/append_event", os.O_WRONLY)
    assert (handle.write(0, b"one"), handle.write(3, b"two")) == (3, 3)
    assert content(tree, "/software/events/event_log").endswith(b"\none\n\ntwo\n")


def test_an_append_takes_a_page_and_no_more(tree):
    assert write(tree, "/software/events/append_event", b"x" * PAGE) == PAGE
    failing(errno.E2BIG, write, tree, "/software/events/append_event", b"x" * (PAGE + 1))
    failing(errno.EINVAL, write, tree, "/software/events/append_event", b"\0")


def test_a_read_is_as_of_open(tree):
    digest = tree.open("/software/both/digest", os.O_RDONLY)
    write(tree, "/software/both/append_event", b"one")
    log = tree.open("/software/both/event_log", os.O_RDONLY)
    before = log.read(0, 4096)
    write(tree, "/software/both/append_event", b"two")
    assert digest.read(0, 32) == bytes(32)
    assert log.read(0, 4096) == before
    assert log.read(len(before), 10) == b""
    assert content(tree, "/software/both/event_log").startswith(before + b"\ntwo")


def test_a_handle_that_extends_reads_the_new_value(tree):
    handle = tree.open("/software/both/digest", os.O_RDWR)
    handle.write(0, bytes(32))
    assert handle.read(0, 32) == SHA256.digest(bytes(64)) == content(tree, "/software/both/digest")


def test_a_handle_does_only_what_it_was_opened_for(tree):
    failing(errno.EBADF, tree.open("/software/both/digest", os.O_RDONLY).write, 0, bytes(32))
    failing(errno.EBADF, tree.open("/software/both/digest", os.O_WRONLY).read, 0, 32)


def test_truncating_what_may_be_written_changes_nothing(tree):
    tree.truncate("/software/both/digest")
    tree.truncate("/software/both/append_event")
    failing(errno.EACCES, tree.truncate, "/software/fixed")
    failing(errno.EISDIR, tree.truncate, "/software/both")


@pytest.mark.parametrize(
    ("path", "number"),
    [("/none", errno.ENOENT), ("/software/none", errno.ENOENT), ("/software/fixed/x", errno.ENOTDIR)],
)
def test_paths_that_are_not_there(tree, path, number):
    for operation in (tree.names, tree.attributes, tree.truncate):
        failing(number, operation, path)
    failing(number, tree.open, path, os.O_RDONLY)


def test_files_and_directories_are_told_apart(tree):
    failing(errno.ENOTDIR, tree.names, "/software/fixed")
    failing(errno.EISDIR, tree.open, "/software/both", os.O_RDONLY)


@pytest.mark.parametrize(("error", "number"), [(RegisterBusy, errno.EBUSY), (RegisterUnavailable, errno.ENXIO)])
def test_the_devices_errors_come_through(tree, provider, monkeypatch, error, number):
    def refuse(*_):
        raise error("no")

    monkeypatch.setattr(provider, "extend", refuse)
    failing(number, write, tree, "/software/both/digest", bytes(32))
    failing(number, write, tree, "/software/both/append_event", b"x")
    monkeypatch.setattr(provider, "read", refuse)
    failing(number, tree.open, "/software/both/digest", os.O_RDONLY)


def test_the_storages_errors_come_through(provider, tmp_path, monkeypatch):
    tree = RegisterTree([LoggedProvider(provider, tmp_path)])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    failing(errno.ENOSPC, write, tree, "/software/both/append_event", b"x")
    assert provider.read(BOTH) == bytes(32)
