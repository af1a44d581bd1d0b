"""The securityfs client over a plain directory and over what the system calls answer."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imarium.errors import MissingComponent, UsageError
from imarium.hashes import SHA1, SHA256, SHA512
from imarium.securityfs import (
    AlreadyStaged,
    DeleteRefused,
    Held,
    ImaDirectory,
    ListBusy,
    ListUnavailable,
    MeasuringSuspended,
    NothingToDelete,
    NothingToStage,
    SecurityfsError,
    WriteNotPermitted,
)
from imarium.securityfs.client import DIRECTORIES
from imarium.securityfs.errors import open_error

PLAIN = "binary_runtime_measurements"


@pytest.fixture
def old(tmp_path: Path) -> ImaDirectory:
    """A kernel without staging."""
    (tmp_path / f"{PLAIN}_sha1").write_bytes(b"list" * 100_000)
    (tmp_path / f"{PLAIN}_sha256").write_bytes(b"other")
    (tmp_path / PLAIN).symlink_to(f"{PLAIN}_sha1")
    (tmp_path / "runtime_measurements_count").write_text("17\n")
    (tmp_path / "violations").write_text("2\n")
    return ImaDirectory(tmp_path, patience=0.0)


@pytest.fixture
def new(old: ImaDirectory) -> ImaDirectory:
    """One with staging, as far as plain files go."""
    for name in ("sha1", "sha256"):
        (old.path / f"{PLAIN}_{name}_staged").write_bytes(b"staged")
    return old


def test_what_is_there(new: ImaDirectory) -> None:
    assert new.algorithms == (SHA1, SHA256)
    assert (new.has_staging, new.can_delete(), new.count(), new.violations()) == (True, True, 17, 2)


def test_a_directory_that_may_not_be_looked_into_is_an_error_of_its_own(old: ImaDirectory) -> None:
    user = os.geteuid()
    old.path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)  # whom the mode keeps out
        for look in (lambda: old.has_staging, lambda: old.algorithms, old.can_delete, old.count):
            with pytest.raises(ListUnavailable, match="may not be read; run as root"):
                look()
        with pytest.raises(ListUnavailable, match="may not be read; run as root"), old.snapshot():
            pass
    finally:
        os.seteuid(user)
        old.path.chmod(0o700)
    assert not old.has_staging


def test_a_kernel_without_staging(old: ImaDirectory) -> None:
    assert (old.has_staging, old.can_delete()) == (False, False)
    with old.snapshot() as lists:
        assert list(lists.staged()) == []
        blocks = list(lists.current())
    assert len(blocks) > 1
    assert b"".join(blocks) == b"list" * 100_000
    with pytest.raises(ListUnavailable, match="not there; name a directory of list files"):
        old.stage()


def test_what_the_kernel_lacks_is_told_from_a_directory_that_is_the_wrong_one() -> None:
    missing = FileNotFoundError(errno.ENOENT, "")
    for path, advice in ((DIRECTORIES[0], "mount securityfs"), (Path("ima"), "name a directory")):
        assert advice in str(open_error(path / PLAIN, missing, write=False))


def test_one_file_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / PLAIN).write_bytes(b"x")
    with ImaDirectory(tmp_path).snapshot() as lists:
        assert b"".join(lists.current()) == b"x"


def test_a_snapshot_has_both_lists_of_one_algorithm(new: ImaDirectory) -> None:
    with new.snapshot(SHA256) as lists:
        assert (b"".join(lists.staged()), b"".join(lists.current())) == (b"staged", b"other")
    with pytest.raises(ListUnavailable), new.snapshot(SHA512):
        pass


def test_each_command_is_one_write(new: ImaDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, bytes]] = []

    def write(descriptor: int, data: bytes) -> int:
        written.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    new.stage()
    new.delete_staged()
    new.delete((1 << 64) - 1)
    staged = f"{PLAIN}_sha1_staged"
    assert written == [(staged, b"A\n"), (staged, b"D\n"), (f"{PLAIN}_sha1", b"18446744073709551615\n")]
    assert max(len(data) for _, data in written) <= 21


ANSWERS: list[tuple[Callable[[Held], None], int, type[SecurityfsError]]] = [
    (Held.stage, errno.EEXIST, AlreadyStaged),
    (Held.stage, errno.ENOENT, NothingToStage),
    (Held.stage, errno.EACCES, MeasuringSuspended),
    (Held.delete_staged, errno.ENOENT, NothingToDelete),
    (Held.delete_staged, errno.ESTALE, MeasuringSuspended),
    (lambda held: held.delete(1), errno.ENOENT, NothingToDelete),
    (lambda held: held.delete(1), errno.ESTALE, MeasuringSuspended),
    (lambda held: held.delete(1), errno.EINVAL, DeleteRefused),
    (Held.stage, errno.EIO, SecurityfsError),
]


@pytest.mark.parametrize(("command", "number", "kind"), ANSWERS)
def test_each_answer_has_its_error(
    new: ImaDirectory,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[Held], None],
    number: int,
    kind: type[SecurityfsError],
) -> None:
    def write(_descriptor: int, _data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with new.hold() as held:
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(SecurityfsError) as caught:
            command(held)
        monkeypatch.undo()
    assert type(caught.value) is kind
    assert isinstance(caught.value, MissingComponent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("records", [0, -1, 1 << 64])
def test_a_number_the_kernel_cannot_take(new: ImaDirectory, records: int) -> None:
    with pytest.raises(UsageError):
        new.delete(records)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EPERM, WriteNotPermitted),
        (errno.EACCES, WriteNotPermitted),
        (errno.ENOENT, ListUnavailable),
        (errno.EIO, ListUnavailable),
        (errno.EBUSY, ListBusy),
    ],
)
def test_opening_for_write(
    new: ImaDirectory, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SecurityfsError]
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind):
        new.stage()
    assert number == errno.EBUSY or not new.can_delete()


def test_a_busy_list_is_waited_for_as_long_as_asked(new: ImaDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        times[0] += seconds

    patient = ImaDirectory(new.path, patience=1.0, sleep=sleep, clock=lambda: times[0])
    real = os.open
    refusals = [4]

    def open_(path: str | Path, flags: int) -> int:
        if refusals[0]:
            refusals[0] -= 1
            raise OSError(errno.EBUSY, "busy")
        return real(path, flags)

    monkeypatch.setattr(os, "open", open_)
    assert patient.count() == 17
    assert pauses == [0.01, 0.02, 0.04, 0.08]
    refusals[0] = 10**6
    pauses.clear()
    with pytest.raises(ListBusy, match="someone else"):
        patient.count()
    assert sum(pauses) == pytest.approx(1.0)
    assert max(pauses) == 0.25


def test_nothing_stays_open(new: ImaDirectory) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with new.hold(), new.snapshot():
        pass
    (new.path / f"{PLAIN}_sha1").unlink()
    (new.path / PLAIN).unlink()
    with pytest.raises(ListUnavailable), new.hold():
        pass
    with pytest.raises(ListUnavailable), new.snapshot():
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_count_that_is_no_number(new: ImaDirectory) -> None:
    (new.path / "violations").write_text("many")
    with pytest.raises(ListUnavailable, match="expected a number"):
        new.violations()


def test_a_count_without_end_is_not_read_to_its_end(new: ImaDirectory) -> None:
    (new.path / "violations").unlink()
    (new.path / "violations").symlink_to("/dev/zero")
    with pytest.raises(ListUnavailable, match="expected a number"):
        new.violations()
