"""Measuring files, without anybody else using them: attributes, names, content, what is remembered."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy_rules import CASES

from imarium.engine import (
    Access,
    Action,
    Event,
    EventFacts,
    FileFacts,
    FileMeasurer,
    FileSystem,
    Hook,
    Policy,
    PolicyFile,
    PolicyRefused,
    Subject,
    Verb,
    builtin_policy,
    parse_rule,
    regular_files,
)
from imarium.engine.collect import ContentChanging, collect
from imarium.engine.content import hash_content, settled
from imarium.engine.file_cache import FileCache
from imarium.engine.naming import file_name
from imarium.engine.process import OpenCall
from imarium.engine.template_data import find_template
from imarium.engine.xattrs import algorithm_of, signature_field
from imarium.errors import MissingComponent
from imarium.formats import PcrIndex
from imarium.hashes import SHA1, SHA256, SHA512, by_name

SIGNED = bytes.fromhex("03020601020304000461626364")
PORTABLE = bytes.fromhex("05020601020304000461626364")


@pytest.mark.parametrize(
    ("value", "algorithm"),
    [
        (b"", "sha256"),
        (SIGNED, "sha512"),
        (SIGNED[:2] + b"\2" + SIGNED[3:], "sha1"),
        (b"\3\1" + SIGNED[2:], "sha256"),
        (b"\3\3" + SIGNED[2:], "sha512"),
        (SIGNED[:2] + b"\x55" + SIGNED[3:], "sha256"),
        (SIGNED[:9], "sha256"),
        (SIGNED[:10], "sha512"),
        (b"\4\6" + bytes(64), "sha512"),
        (b"\4\x55" + bytes(64), "sha256"),
        (b"\4", "sha256"),
        (b"\2" + bytes(20), "sha256"),
        (PORTABLE, "sha256"),
        (b"\6\3" + SIGNED[2:], "sha512"),
        (b"\6\2" + SIGNED[2:], "sha256"),
        (b"\1" + bytes(15) + b"\1\1\1\1\1", "sha1"),
        (b"\1" + bytes(16), "md5"),
        (b"\1" + bytes(20), "md5"),
        (b"\1" + bytes(30), "sha256"),
        (b"\4\x0d" + bytes(64), "sha256"),
    ],
)
def test_the_attribute_names_the_algorithm(value: bytes, algorithm: str) -> None:
    assert algorithm_of(value, SHA256) == by_name(algorithm)


@given(st.binary(max_size=80))
def test_any_attribute_gives_an_algorithm_that_can_be_computed(value: bytes) -> None:
    assert algorithm_of(value, SHA256).computable


def test_only_signatures_are_signatures() -> None:
    assert signature_field(SIGNED, PORTABLE) == SIGNED
    assert signature_field(b"\6\3" + SIGNED[2:], b"") == b"\6\3" + SIGNED[2:]
    assert signature_field(b"\4\6" + bytes(64), b"") == b""
    assert signature_field(b"\4\6" + bytes(64), PORTABLE) == PORTABLE
    assert signature_field(PORTABLE, b"\2" + bytes(20)) == b""


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_content_is_hashed_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with path.open("rb") as file:
        file.seek(size // 2)
        digests = hash_content(file.fileno(), (SHA256, SHA1))
        assert file.tell() == size // 2
    assert digests == (hashlib.sha256(path.read_bytes()).digest(), hashlib.sha1(path.read_bytes()).digest())  # noqa: S324


def test_a_file_that_shrinks_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        os.truncate(path, 10)
        assert hash_content(file.fileno(), (SHA256,)) == (hashlib.sha256(b"x" * 10).digest(),)
        assert os.fstat(file.fileno()).st_size != before.st_size


@pytest.mark.parametrize(("part", "seconds"), [(1, 0.1), (0, 3)], ids=["a clock's ticks", "seconds"])
def test_what_changed_just_now_may_change_again(part: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = 1_700_000_000 * 10**9 + part
    status: Any = SimpleNamespace(st_mtime_ns=changed - 10**9, st_ctime_ns=changed)
    monkeypatch.setattr("imarium.engine.content.time.time_ns", lambda: changed + int(seconds * 1e9) // 10)
    assert not settled(status)
    monkeypatch.setattr("imarium.engine.content.time.time_ns", lambda: changed + int(seconds * 1e9))
    assert settled(status)


def test_names(tmp_path: Path) -> None:
    for name in ("plain", "with space", "new\nline", "\udcff\udcfe", "like (deleted)"):
        path = tmp_path / name
        with path.open("wb") as file:
            assert file_name(file.fileno()) == os.fsencode(path)
            path.unlink()
            assert file_name(file.fileno()) == os.fsencode(path)


def test_the_name_of_a_file_with_other_links(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"x")
    os.link(path, other)
    with path.open("rb") as file:
        path.unlink()
        assert file_name(file.fileno()) == os.fsencode(path)


def test_a_name_longer_than_paths_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        Path("n" * 200).mkdir()
        os.chdir("n" * 200)
    Path("beyond").write_bytes(b"x")
    with Path("beyond").open("rb") as file:
        assert file_name(file.fileno()) == b"beyond"


@pytest.mark.parametrize(
    ("flags", "access", "writes"),
    [
        (os.O_RDONLY, Access.READ, False),
        (os.O_WRONLY, Access.WRITE, True),
        (os.O_RDWR, Access.READ | Access.WRITE, True),
        (os.O_WRONLY | os.O_APPEND, Access.WRITE | Access.APPEND, True),
        (os.O_RDONLY | os.O_TRUNC, Access.READ | Access.WRITE, False),
        (None, Access.READ, False),
    ],
)
def test_what_a_file_is_opened_for(flags: int | None, access: Access, writes: bool) -> None:
    call = OpenCall(False, flags)
    assert (call.access, call.writes, call.creates) == (access, writes, False)


def test_what_is_sure_to_be_made() -> None:
    assert OpenCall(False, os.O_RDWR | os.O_CREAT | os.O_EXCL).creates
    assert OpenCall(False, os.O_RDWR | os.O_TMPFILE).creates
    assert not OpenCall(False, os.O_RDWR | os.O_CREAT).creates
    assert not OpenCall(False, os.O_RDONLY | os.O_DIRECTORY).creates
    assert OpenCall(True, None).access == Access.EXEC


def test_files_are_forgotten_in_the_order_they_were_asked_for() -> None:
    cache = FileCache(capacity=2)
    first, second = cache.state(1, 1), cache.state(1, 2)
    assert cache.state(1, 1) is first
    cache.state(1, 3)
    assert cache.known(1, 1) is first
    assert cache.known(1, 2) is None
    assert cache.state(1, 2) is not second
    assert len(cache) == 2


class Measured:
    """A measurer and what it records."""

    def __init__(self, *rules: bytes) -> None:
        self.events: list[tuple[Event, Action]] = []
        policy = PolicyFile(builtin_policy(["tcb"]))
        for rule in rules:
            policy.append(rule + b"\n")
        self.files = FileMeasurer(
            policy, self._add, hash_algorithm=SHA256, template="ima-ng", byte_order="little", cache=FileCache(100)
        )

    def _add(self, event: Event, action: Action) -> bool:
        self.events.append((event, action))
        return True


def test_a_file_is_measured_once_and_again_after_a_change(tmp_path: Path) -> None:
    measured = Measured()
    path = tmp_path / "file"
    for content in (b"one", b"one", b"two"):
        path.write_bytes(content)
        measured.files.measure(path)
        measured.files.measure(path)
    assert [event.digest for event, _ in measured.events] == [SHA256.digest(b"one"), SHA256.digest(b"two")]
    assert measured.events[0][0].name == os.fsencode(path)


def test_the_policy_is_asked_where_a_hook_is_named(tmp_path: Path) -> None:
    path = tmp_path / "module"
    path.write_bytes(b"module")
    rules = (
        b"dont_measure func=FIRMWARE_CHECK",
        b"measure func=MODULE_CHECK pcr=11 template=ima-sig",
        b"measure pcr=12",
    )
    measured = Measured(*rules)
    assert measured.files.measure(path, Hook.MODULE_CHECK)
    assert not measured.files.measure(path, Hook.FIRMWARE_CHECK)
    assert measured.files.measure(path, Hook.KEXEC_KERNEL_CHECK)
    assert [action for _, action in measured.events] == [Action(PcrIndex(11), "ima-sig"), Action(PcrIndex(12))]


def test_each_register_gets_its_own_record(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    measured = Measured(b"measure func=MODULE_CHECK pcr=11", b"measure pcr=12")
    for hook in (Hook.MODULE_CHECK, Hook.FIRMWARE_CHECK, Hook.MODULE_CHECK):
        measured.files.measure(path, hook)
    assert [action.pcr for _, action in measured.events] == [11, 12]


def test_without_fs_verity_its_digest_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    measured = Measured(b"measure func=FILE_CHECK digest_type=verity template=ima-ngv2")
    with pytest.raises(Exception, match="fs-verity") as caught:
        measured.files.measure(path, Hook.FILE_CHECK)
    assert getattr(caught.value, "code", None) == "no_verity_digest"
    assert measured.events == []


def test_what_was_read_is_measured_and_not_what_is_there_now(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_bytes(b"now")
    measured = Measured()
    assert measured.files.read(path, b"as it was read", Hook.POLICY_CHECK)
    assert measured.events[0][0].digest == SHA256.digest(b"as it was read")


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    measured = Measured()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(MissingComponent, match="cannot measure"):
            measured.files.measure(path)


def test_all_files_of_a_directory(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("missing")
    os.mkfifo(tmp_path / "fifo")
    assert list(regular_files(tmp_path)) == [tmp_path / name for name in ("a", "b", "sub/c")]
    assert list(regular_files(tmp_path / "a")) == [tmp_path / "a"]
    with pytest.raises(MissingComponent, match="there is no such file"):
        list(regular_files(tmp_path / "missing"))


def test_a_file_that_never_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")

    def changing(descriptor: int, algorithms: tuple[object, ...]) -> tuple[bytes, ...]:
        del descriptor
        with path.open("ab") as file:
            file.write(b"x")
        return tuple(b"" for _ in algorithms)

    monkeypatch.setattr("imarium.engine.collect.hash_content", changing)
    with path.open("rb") as file, pytest.raises(ContentChanging, match="changes while it is read"):
        collect(file.fileno(), SHA256, find_template("ima-ng"), "little")


def test_fields_of_the_old_template_and_of_evm(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o640)
    with path.open("rb") as file:
        old = collect(file.fileno(), SHA512, find_template("ima"), "little")
        evm = collect(file.fileno(), SHA512, find_template("evm-sig"), "big")
    assert (old.sha1, old.digest) == (SHA1.digest(b"content"), SHA512.digest(b"content"))
    status = path.stat()
    assert evm.more["iuid"] == status.st_uid.to_bytes(4, "big")
    assert evm.more["imode"] == status.st_mode.to_bytes(2, "big")
    assert evm.more["evmsig"] == b""


RULES = sorted({case.line for case in CASES if case.errno == 0 and case.text})
SUBJECTS = [
    Subject(0, 0, 0, 0, 0, 0, True, True),
    Subject(1, 2, 3, 4, 5, 6, False, False),
    Subject(7, 7, 0, 7, 7, 0, True, True),
]
FILES = [
    FileFacts(0, 0, FileSystem(0xEF53, b"ext4")),
    FileFacts(1, 2, FileSystem(1, b"fuse", b"sshfs")),
    FileFacts(1, 7, FileSystem(5, b"b")),
]


@given(
    st.lists(st.sampled_from(RULES), max_size=8),
    st.sampled_from(list(Hook)),
    st.integers(0, 15).map(Access),
    st.sampled_from(SUBJECTS),
    st.sampled_from(FILES),
)
def test_which_rules_are_looked_at_changes_no_decision(
    lines: list[bytes], hook: Hook, access: Access, subject: Subject, file: FileFacts
) -> None:
    rules = []
    for line in lines:
        try:
            rules.append(parse_rule(line.strip()))
        except PolicyRefused:
            continue
    event = EventFacts(hook, access, subject, file, b"a")
    first = next((rule for rule in rules if rule.fits(event)), None)
    found = Policy(rules).match(event)
    assert (found is not None) == (first is not None and first.verb is Verb.MEASURE)
    if found is not None and first is not None:
        assert (found.template, found.verity) == (first.template, first.verity)
