"""Registers and those who provide them: software ones, and sysfs as the kernel lays it out."""

import errno
import json
import os
import re
import threading
from pathlib import Path

import pytest

from imarium import hashes
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.registers import (
    Access,
    FileRegisters,
    ForeignExtend,
    MemoryRegisters,
    MrFlags,
    Register,
    RegisterBusy,
    RegisterError,
    RegisterFailed,
    RegisterInterrupted,
    RegisterReadOnly,
    RegisterUnavailable,
    TsmRegisters,
    discover,
    find_register,
)

SHA256, SHA384 = hashes.SHA256, hashes.SHA384
RTMR = Register("rtmr0", 48, SHA384, Access.RTMR | Access.W)
STORED = Register("owner", 16, None, Access.R | Access.W)
STATIC = Register("mrtd", 48, SHA384, Access.R)


PROJECT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_rules_name_is_there():
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs" / "registers.md").read_text()))
    assert len(named) > 40
    sources = "".join(path.read_text() for path in (PROJECT / "tests").glob("*/test_registers*.py"))
    assert {name for name in named if f"def {name}(" not in sources} == set()


def test_flags_have_the_numbers_of_both_interfaces():
    assert [int(flag) for flag in (MrFlags.NOHASH, MrFlags.WRITABLE, MrFlags.READABLE, MrFlags.LIVE)] == [1, 2, 4, 8]
    assert MrFlags.RTMR == MrFlags.LIVE | MrFlags.WRITABLE
    assert [int(flag) for flag in (Access.X, Access.W, Access.R, Access.L)] == [1, 2, 4, 8]
    assert Access.LIVE == Access.L | Access.R
    assert Access.RTMR == Access.LIVE | Access.X


@pytest.mark.parametrize(
    ("register", "flags", "letters"),
    [
        (RTMR, MrFlags.RTMR | MrFlags.READABLE, "XWRL"),
        (STATIC, MrFlags.READABLE, "--R-"),
        (STORED, MrFlags.READABLE | MrFlags.NOHASH, "-WR-"),
        (Register("x", 48, SHA384, Access.RTMR), MrFlags.READABLE | MrFlags.LIVE, "X-RL"),
    ],
)
def test_one_register_has_flags_of_both_interfaces(register, flags, letters):
    assert register.flags == flags
    assert register.access.letters == letters


@pytest.mark.parametrize(
    ("name", "size", "algorithm", "access"),
    [
        ("", 48, SHA384, Access.R),
        ("../x", 48, SHA384, Access.R),
        (".x", 48, SHA384, Access.R),
        ("a/b", 48, SHA384, Access.R),
        ("a:b", 48, SHA384, Access.R),
        ("a\n", 48, SHA384, Access.R),
        ("x" * 65, 48, SHA384, Access.R),
        ("a", 47, SHA384, Access.R),
        ("a", 0, None, Access.R),
        ("a", 4097, None, Access.R),
        ("a", 48, None, Access.RTMR),
    ],
)
def test_a_register_that_does_not_fit_together_is_malformed(name, size, algorithm, access):
    with pytest.raises(MalformedInput):
        Register(name, size, algorithm, access)


@pytest.fixture(params=["memory", "file"])
def software(request, tmp_path):
    registers = (RTMR, STORED, STATIC)
    return MemoryRegisters(registers) if request.param == "memory" else FileRegisters.create(tmp_path / "r", registers)


def test_software_registers_extend_by_the_hash_chain(software):
    digest = bytes(range(48))
    first = software.extend(RTMR, digest)
    assert first == SHA384.digest(bytes(48) + digest) == software.read(RTMR)
    assert software.extend(RTMR, digest) == SHA384.digest(first + digest)


def test_software_registers_store_only_what_is_writable_and_not_extensible(software):
    software.store(STORED, b"0123456789abcdef")
    assert software.read(STORED) == b"0123456789abcdef"
    for register in (RTMR, STATIC):
        with pytest.raises(RegisterReadOnly):
            software.store(register, bytes(48))
    with pytest.raises(UsageError):
        software.store(STORED, bytes(15))


@pytest.mark.parametrize("size", [0, 47, 49, 96])
def test_a_digest_of_another_size_extends_nothing(software, size):
    with pytest.raises(UsageError):
        software.extend(RTMR, bytes(size))
    assert software.read(RTMR) == bytes(48)


def test_a_static_register_is_not_extended(software):
    with pytest.raises(RegisterReadOnly):
        software.extend(STATIC, bytes(48))


def test_a_register_is_found_with_and_without_its_hash(software):
    assert find_register(software, "rtmr0") == find_register(software, "rtmr0:sha384") == RTMR
    with pytest.raises(UsageError, match="rtmr0:sha384"):
        find_register(software, "rtmr9")
    two = MemoryRegisters([Register("a", 32, SHA256, Access.R), Register("a", 48, SHA384, Access.R)])
    with pytest.raises(UsageError, match="several"):
        find_register(two, "a")


def test_a_file_of_registers_is_seen_by_others_and_never_made_anew(tmp_path):
    made = FileRegisters.create(tmp_path / "deep" / "r")
    value = made.extend(RTMR, bytes(48))
    other = FileRegisters(tmp_path / "deep" / "r")
    assert other.read(RTMR) == value
    assert other.registers() == made.registers()
    assert (tmp_path / "deep" / "r").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RefusedOperation):
        FileRegisters.create(tmp_path / "deep" / "r")
    assert other.read(RTMR) == value


def test_no_extend_of_a_file_of_registers_is_lost_among_several_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    registers = FileRegisters.create(tmp_path / "r")
    digest, times = bytes(48), 25
    threads = [threading.Thread(target=lambda: [registers.extend(RTMR, digest) for _ in range(times)]) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = bytes(48)
    for _ in range(times * len(threads)):
        expected = SHA384.digest(expected + digest)
    assert registers.read(RTMR) == expected


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"null", b"\xff", b"[" * 200000, b'{"sha256": 1}'])
def test_a_damaged_file_of_registers_is_malformed(tmp_path, damage):
    FileRegisters.create(tmp_path / "r")
    (tmp_path / "r").write_bytes(damage)
    with pytest.raises(MalformedInput):
        FileRegisters(tmp_path / "r").registers()


def test_a_changed_value_in_a_file_of_registers_is_seen(tmp_path):
    FileRegisters.create(tmp_path / "r")
    document = json.loads((tmp_path / "r").read_text())
    document["registers"][0]["value"] = "11" * 48
    (tmp_path / "r").write_text(json.dumps(document))
    with pytest.raises(MalformedInput):
        FileRegisters(tmp_path / "r").registers()


def test_a_missing_file_of_registers_is_missing(tmp_path):
    with pytest.raises(MissingComponent, match="create"):
        FileRegisters(tmp_path / "r").registers()


@pytest.mark.parametrize("path", [Path("/"), Path("/.."), Path("//")])
def test_the_root_directory_is_no_file_of_registers(path):
    with pytest.raises(UsageError, match="name a file"):
        FileRegisters(path)


@pytest.fixture
def sysfs(tmp_path):
    """A directory like the kernel's sample of registers, of plain files."""
    directory = tmp_path / "dev0" / "measurements"
    directory.mkdir(parents=True)
    for name, size, mode in [
        ("config_mr", 16, 0o444),
        ("rtmr0:sha256", 32, 0o444),
        ("rtmr1:sha384", 48, 0o644),
        ("agile:sha384", 48, 0o644),
        ("agile:sha256", 32, 0o644),
    ]:
        (directory / name).write_bytes(bytes([size]) * size)
        (directory / name).chmod(mode)
    return directory


@pytest.fixture
def kernel(monkeypatch):
    """Writes to registers of :func:`sysfs`, which extend as the kernel's do: cut to size, short count."""
    writes: list[tuple[str, bytes]] = []
    answers: list[OSError] = []
    paths = {}
    real_open = os.open

    def opened(path, flags, *rest):
        descriptor = real_open(path, flags, *rest)
        paths[descriptor] = path
        return descriptor

    def write(descriptor, data):
        path = paths[descriptor]
        writes.append((path.name, bytes(data)))
        if answers:
            raise answers.pop(0)
        old = path.read_bytes()
        path.write_bytes(hashes.by_name(path.name.partition(":")[2]).digest(old + data[: len(old)]))
        return min(len(data), len(old))

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "write", write)
    return writes, answers


def test_sysfs_is_described_by_names_modes_and_sizes(sysfs):
    found = {register.key: register for register in TsmRegisters(sysfs).registers()}
    assert list(found) == ["agile:sha256", "agile:sha384", "config_mr", "rtmr0:sha256", "rtmr1:sha384"]
    assert found["config_mr"].flags == MrFlags.NOHASH | MrFlags.READABLE
    assert found["rtmr0:sha256"].flags == MrFlags.READABLE
    assert found["rtmr1:sha384"].flags == MrFlags.RTMR | MrFlags.READABLE
    assert (found["agile:sha256"].size, found["agile:sha384"].size) == (32, 48)
    assert TsmRegisters(sysfs).read(found["config_mr"]) == bytes([16]) * 16
    assert TsmRegisters(sysfs).name == "dev0"


def test_the_registers_of_a_tdx_guest_are_understood(tmp_path):
    for name in ("mrtd:sha384", "mrconfigid", "mrowner", "mrownerconfig", *(f"rtmr{n}:sha384" for n in range(4))):
        (tmp_path / name).write_bytes(bytes(48))
        (tmp_path / name).chmod(0o644 if name.startswith("rtmr") else 0o444)
    found = {register.key: register.flags for register in TsmRegisters(tmp_path).registers()}
    static, rtmr = MrFlags.READABLE, MrFlags.READABLE | MrFlags.RTMR
    assert [found[name] for name in ("mrtd:sha384", "mrowner")] == [static, static | MrFlags.NOHASH]
    assert [found[f"rtmr{n}:sha384"] for n in range(4)] == [rtmr] * 4


def test_devices_are_discovered_by_their_directory(sysfs):
    (sysfs.parent.parent / "dev1").mkdir()
    assert discover(sysfs.parent.parent) == ("dev0",)
    assert discover(sysfs / "nowhere") == ()


@pytest.mark.parametrize("name", ["a:b", "a:", "a:sha384:sha384", "a:SHA384", "a:sha3_384", "-a:sha384", "a b"])
def test_a_name_that_is_not_a_registers_is_malformed(sysfs, name):
    (sysfs / name).write_bytes(bytes(48))
    with pytest.raises(MalformedInput):
        TsmRegisters(sysfs).registers()


def test_a_size_that_is_not_the_hashs_is_malformed(sysfs):
    (sysfs / "rtmr2:sha384").write_bytes(bytes(47))
    with pytest.raises(MalformedInput):
        TsmRegisters(sysfs).registers()


@pytest.mark.parametrize("device", ["", "..", "a/b", ".hidden"])
def test_a_device_is_a_name_and_not_a_path(device):
    with pytest.raises(UsageError):
        TsmRegisters(device)


def test_a_missing_device_is_missing(tmp_path):
    with pytest.raises(MissingComponent):
        TsmRegisters(tmp_path / "none").registers()


@pytest.mark.parametrize("name", ["rtmr1", "agile:sha256", "agile:sha384"])
def test_sysfs_is_extended_by_one_write_of_exactly_the_size(sysfs, kernel, name):
    writes, _ = kernel
    device = TsmRegisters(sysfs)
    register = find_register(device, name)
    old, digest = device.read(register), bytes(range(register.size))
    value = device.extend(register, digest)
    assert register.hash is not None
    assert value == register.hash.digest(old + digest) == device.read(register)
    assert writes == [(register.key, digest)]


@pytest.mark.parametrize("size", [0, 47, 49, 4096])
def test_nothing_of_another_size_ever_reaches_the_kernel(sysfs, kernel, size):
    writes, _ = kernel
    device = TsmRegisters(sysfs)
    with pytest.raises(UsageError):
        device.extend(find_register(device, "rtmr1"), bytes(size))
    assert writes == []


def test_a_static_register_of_sysfs_is_refused_before_the_kernel_is_asked(sysfs, kernel):
    writes, _ = kernel
    device = TsmRegisters(sysfs)
    for name in ("rtmr0", "config_mr"):
        register = find_register(device, name)
        with pytest.raises(RegisterReadOnly):
            device.extend(register, bytes(register.size))
        with pytest.raises(RegisterReadOnly):
            device.store(register, bytes(register.size))
    assert writes == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENXIO, RegisterUnavailable),
        (errno.EBUSY, RegisterBusy),
        (errno.EIO, RegisterFailed),
        (errno.EINTR, RegisterInterrupted),
        (errno.EACCES, MissingComponent),
        (errno.EOVERFLOW, RegisterError),
    ],
)
def test_each_error_of_the_device_has_its_class_and_advice(sysfs, kernel, number, kind):
    writes, answers = kernel
    answers.append(OSError(number, os.strerror(number)))
    device = TsmRegisters(sysfs)
    with pytest.raises(kind) as raised:
        device.extend(find_register(device, "rtmr1"), bytes(48))
    assert "rtmr1" in str(raised.value)
    assert len(writes) == 1


@pytest.mark.usefixtures("kernel")
def test_another_value_than_expected_is_told(sysfs, monkeypatch):
    device = TsmRegisters(sysfs)
    register = find_register(device, "rtmr1")
    values = iter([bytes(48), bytes(48)])
    monkeypatch.setattr(device, "read", lambda _register: next(values))
    with pytest.raises(ForeignExtend):
        device.extend(register, bytes(48))


def test_a_short_value_is_an_error(sysfs):
    device = TsmRegisters(sysfs)
    register = find_register(device, "rtmr1")
    (sysfs / "rtmr1:sha384").write_bytes(bytes(47))
    with pytest.raises(RegisterError):
        device.read(register)
