"""The parts of a watch that need no kernel: events as bytes, and what is watched."""

import os
import struct
from pathlib import Path

import pytest

from imarium.engine.fanotify import Happened, RawEvent, parse_events
from imarium.engine.watch_scope import Scope
from imarium.errors import MissingComponent, UsageError


def event(mask: int, descriptor: int = 7, task: int = 42, *, version: int = 3, length: int = 24) -> bytes:
    return struct.pack("=IBBHQii", length, version, 0, 24, mask, descriptor, task) + bytes(max(0, length - 24))


def test_events_are_taken_apart() -> None:
    data = event(0x10000) + event(0x40000, 8, length=40) + event(0x8, 9) + event(0x4000, -1, 0)
    assert list(parse_events(data)) == [
        RawEvent(Happened.OPEN, 7, 42),
        RawEvent(Happened.EXECUTE, 8, 42),
        RawEvent(Happened.CLOSE_WRITE, 9, 42),
        RawEvent(Happened.OVERFLOW, -1, 0),
    ]
    assert [one.happened.waits for one in parse_events(data)] == [True, True, False, False]
    assert list(parse_events(data[:-1])) == list(parse_events(data))[:-1]


@pytest.mark.parametrize("data", [event(0x10000, version=2), event(0x10000, length=8)])
def test_events_of_another_kernel_are_refused(data: bytes) -> None:
    with pytest.raises(MissingComponent, match="version"):
        list(parse_events(data))


def test_what_is_below_a_path_is_watched(tmp_path: Path) -> None:
    for name in ("part", "part/inner", "partial", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "link").symlink_to("part")
    scope = Scope([tmp_path / "link", tmp_path / "other" / "file"])
    covered = []
    for path in sorted(tmp_path.rglob("file")):
        with path.open("rb") as file:
            if scope.covers(file.fileno()):
                covered.append(str(path.parent.relative_to(tmp_path)))
    assert covered == ["other", "part", "part/inner"]
    assert scope.roots == [tmp_path / "part", tmp_path / "other" / "file"]


def test_a_mount_point_is_watched_whole() -> None:
    scope = Scope([Path("/")])
    with Path(__file__).open("rb") as file:
        assert scope.covers(file.fileno()) or os.fstat(file.fileno()).st_dev != Path("/").stat().st_dev


def test_paths_that_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name paths"):
        Scope([])
    with pytest.raises(MissingComponent, match="nowhere"):
        Scope([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="itself serves"):
        Scope([tmp_path], mounts=[tmp_path])
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(MissingComponent):
        Scope([loop])
