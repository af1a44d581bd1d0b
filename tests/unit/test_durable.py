"""Durable writes: what is replaced, under which name, and what is left when it fails."""

import os
from pathlib import Path

import pytest

from imarium import durable
from imarium.cli.documents import write_atomically
from imarium.errors import MissingComponent


def test_a_file_is_replaced_through_a_new_one_that_no_one_foresees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int, int]] = []
    really = os.open

    def watched(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            opened.append((Path(path).name, flags, mode))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    path = tmp_path / "state"
    for data in (b"one", b"two"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({name for name, _, _ in opened}) == 2
    wanted = os.O_EXCL | os.O_NOFOLLOW
    assert all(flags & wanted == wanted and mode == 0o600 for _, flags, mode in opened)
    assert list(tmp_path.iterdir()) == [path]


def test_what_waits_under_a_name_is_never_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _size: "taken")
    victim = tmp_path / "victim"
    victim.write_bytes(b"safe")
    (tmp_path / ".taken.new").symlink_to(victim)
    with pytest.raises(MissingComponent, match="File exists"):
        durable.replace_file(tmp_path / "state", b"data")
    assert victim.read_bytes() == b"safe"
    assert (tmp_path / ".taken.new").is_symlink()


def test_a_replacement_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state" / "below").mkdir(parents=True)
    with pytest.raises(MissingComponent, match=r"state: .*directory"):
        write_atomically(tmp_path / "state", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with pytest.raises(MissingComponent, match="No such file or directory; name a place that is there"):
        write_atomically(tmp_path / "nowhere" / "state", b"data")


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_a_directory_that_has_no_name_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingComponent):
        write_atomically(Path(path), b"data")
    assert not [left for place in (tmp_path, tmp_path.parent, Path("/")) for left in place.glob(".*.new")]


def test_the_callers_mode_is_taken(tmp_path: Path) -> None:
    durable.replace_file(tmp_path / "state", b"data", mode=0o400)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("size", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("cut", [1, 3, 5, 100])
def test_half_of_what_is_appended_is_there_halfway(tmp_path: Path, size: int, cut: int) -> None:
    path, data = tmp_path / "list", bytes(range(size))
    seen: list[bytes] = []
    blocks = [data[start : start + cut] for start in range(0, size, cut)]
    durable.append_blocks(path, blocks, size=size, halfway=lambda: seen.append(path.read_bytes()))
    assert (seen, path.read_bytes()) == ([data[: size // 2]], data)
