"""Attestation keys on disk, and the kernel's PCR files: written whole, read with suspicion."""

import os
import struct
import sys
from pathlib import Path

import pytest

from imarium.errors import MalformedInput, MissingComponent, RefusedOperation
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256
from imarium.rot import EndorsementKind, StoredKey, Tpm, holds_key, load_key, read_sysfs, save_key, tss


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


PUBLIC = sized(
    struct.pack(">HHI", 0x23, 0x0B, 0x00050072)
    + sized(b"")
    + struct.pack(">HHHHH", 0x10, 0x18, 0x0B, 3, 0x10)
    + sized(b"\1" * 32)
    + sized(b"\2" * 32)
)
LOADABLE = StoredKey(PUBLIC, sized(b"private"), EndorsementKind.RSA_2048)
PERSISTENT = StoredKey(PUBLIC, handle=0x81010002)


@pytest.mark.parametrize("key", [LOADABLE, PERSISTENT], ids=["loadable", "persistent"])
def test_a_key_comes_back_as_it_was(tmp_path: Path, key: StoredKey) -> None:
    assert not holds_key(tmp_path / "ak")
    save_key(tmp_path / "ak", key)
    assert holds_key(tmp_path / "ak")
    assert load_key(tmp_path / "ak") == key
    assert [path.name for path in tmp_path.iterdir()] == ["ak"]


def test_a_file_that_is_too_large_is_malformed(tmp_path: Path) -> None:
    save_key(tmp_path / "ak", LOADABLE)
    (tmp_path / "ak" / "ak.priv").write_bytes(bytes(4097))
    with pytest.raises(MalformedInput, match=r"ak\.priv.*more"):
        load_key(tmp_path / "ak")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(b"precious")
    for name in ("file", "full"):
        with pytest.raises(RefusedOperation, match="choose another"):
            save_key(tmp_path / name, LOADABLE)
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    with pytest.raises(MissingComponent, match="No such file"):
        save_key(tmp_path / "absent" / "ak", LOADABLE)


@pytest.mark.parametrize("step", range(6))
def test_a_failure_at_any_sync_or_rename_leaves_no_key_or_a_whole_one(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files are synced, their directory, then it is renamed, then the parent is synced."""
    left = step

    def failing(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "Input/output error")

    rename = Path.rename

    def renaming(self: Path, target: Path) -> Path:
        failing()
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr(Path, "rename", renaming)
    with pytest.raises(MissingComponent, match="Input/output error"):
        save_key(tmp_path / "ak", LOADABLE)
    if step < 5:
        assert list(tmp_path.iterdir()) == []
    else:
        assert load_key(tmp_path / "ak") == LOADABLE


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ak.pub", b""),
        ("ak.pub", PUBLIC[:-1]),
        ("ak.pub", PUBLIC + b"\0"),
        ("ak.pub", bytes(5000)),
        ("ak.priv", b""),
        ("ak.priv", b"\0"),
        ("ak.priv", sized(b"private") + b"\0"),
        ("ak.parent", b"rsa-1024\n"),
        ("ak.parent", b"\xff\n"),
        ("ak.handle", b""),
        ("ak.handle", b"0x40000001\n"),
        ("ak.handle", b"0x\xff\n"),
    ],
)
def test_a_damaged_file_is_malformed(tmp_path: Path, name: str, content: bytes) -> None:
    save_key(tmp_path / "ak", LOADABLE)
    (tmp_path / "ak" / name).write_bytes(content)
    with pytest.raises(MalformedInput):
        load_key(tmp_path / "ak")


@pytest.mark.parametrize("name", ["ak.pub", "ak.priv", "ak.parent"])
def test_a_missing_file_is_missing(tmp_path: Path, name: str) -> None:
    save_key(tmp_path / "ak", LOADABLE)
    (tmp_path / "ak" / name).unlink()
    with pytest.raises(MissingComponent, match=f"{name} is not there; make a key with: imarium rot ak DIR"):
        load_key(tmp_path / "ak")


def kernel_files(root: Path) -> None:
    for bank, fill in ((SHA1, "AB"), (SHA256, "CD")):
        directory = root / f"pcr-{bank.name}"
        directory.mkdir()
        for index in range(24):
            (directory / str(index)).write_text(fill * bank.size + "\n")


def test_a_place_that_cannot_be_looked_at_is_missing_and_not_empty(tmp_path: Path) -> None:
    place = tmp_path / ("a" * 300)
    for look in (holds_key, load_key, read_sysfs):
        with pytest.raises(MissingComponent, match="File name too long"):
            look(place)


def test_the_kernels_files_are_read(tmp_path: Path) -> None:
    kernel_files(tmp_path)
    every = read_sysfs(tmp_path)
    assert every == {
        SHA1: dict.fromkeys(range(24), b"\xab" * 20),
        SHA256: dict.fromkeys(range(24), b"\xcd" * 32),
    }
    assert read_sysfs(tmp_path, [PcrIndex(10)])[SHA1] == {10: b"\xab" * 20}


@pytest.mark.parametrize("content", [b"", b"AB", b"AB" * 21, b"zz" * 20, b"\xff" * 40, b"AB" * 10000])
def test_a_file_without_a_digest_of_its_bank_is_malformed(tmp_path: Path, content: bytes) -> None:
    kernel_files(tmp_path)
    (tmp_path / "pcr-sha1" / "10").write_bytes(content)
    with pytest.raises(MalformedInput, match="pcr-sha1/10"):
        read_sysfs(tmp_path)


def test_no_tpm_and_no_such_register_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingComponent, match="the kernel shows no PCRs"):
        read_sysfs(tmp_path)
    kernel_files(tmp_path)
    with pytest.raises(MissingComponent, match="cannot read"):
        read_sysfs(tmp_path, [PcrIndex(31)])


def test_without_the_library_the_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    tss._library.cache_clear()
    with pytest.raises(MissingComponent, match=r"pip install 'imarium\[tpm\]', and libtss2-dev on Debian"):
        Tpm("swtpm:host=127.0.0.1,port=1")


def test_without_a_device_the_driver_says_what_to_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tss, "_DEVICES", (tmp_path / "tpmrm0", tmp_path / "tpm0"))
    with pytest.raises(MissingComponent, match="name one, such as swtpm:"):
        Tpm()
    (tmp_path / "tpm0").touch()
    assert tss.default_tcti() == f"device:{tmp_path / 'tpm0'}"
    (tmp_path / "tpmrm0").touch()
    assert tss.default_tcti() == f"device:{tmp_path / 'tpmrm0'}"
