"""Checking and repairing a store: damage anywhere is found and named by record, and nothing good is touched."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.builders import binary, ng
from tests.unit.test_index import filled

from imarium.chain import replay
from imarium.custody import Event, Log, Store
from imarium.custody.check import Finding, check_log, check_store
from imarium.custody.indexing import write_index
from imarium.custody.marks import STRIDE
from imarium.custody.repair import repair_log
from imarium.errors import RefusedOperation
from imarium.formats.records import ListLayout
from imarium.hashes import SHA1, SHA256

if TYPE_CHECKING:
    from collections.abc import Callable

MADE = [ng(b"boot_aggregate"), *(ng(b"/bin/%d" % number) for number in range(1, 3000))]
OFFSETS = [0]
for _made in MADE:
    OFFSETS.append(OFFSETS[-1] + len(_made.binary()))


def whole(place: Path) -> Log:
    """A good log with an index, kept in two runs whose states the journal has noted."""
    log = filled(place, MADE[:1500])
    log.note(Event.KEPT, "boot", base=0, state=replay([binary(MADE[:1500])], ListLayout(), (SHA1, SHA256)).state)
    more = binary(MADE[1500:])
    with log.list_path.open("ab") as file:
        file.write(more)
    log.grow(1500, len(more))
    log.note(Event.KEPT, "boot", base=0, state=replay([binary(MADE)], ListLayout(), (SHA1, SHA256)).state)
    write_index(log)
    return Log(log.directory)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "store"
    whole(place)
    return place


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    shutil.copytree(made, tmp_path / "store", copy_function=shutil.copy2)
    return Store(tmp_path / "store")


def found(store: Store) -> list[Finding]:
    return list(check_store(store))


def the_list(store: Store) -> Path:
    return store.directory_of(0) / "list"


def edit(path: Path, change: Callable[[bytearray], object]) -> bytes:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return bytes(data)


def test_nothing_is_wrong_with_a_good_store(store: Store) -> None:
    assert found(store) == []
    assert repair_log(store, 0) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, OFFSETS[-1] - 1), st.integers(1, 255))
def test_any_changed_byte_of_the_list_is_found_and_named(store: Store, at: int, change: int) -> None:
    path = the_list(store)
    good = path.read_bytes()
    try:
        edit(path, lambda data: data.__setitem__(at, data[at] ^ change))
        damaged = path.read_bytes()
        findings = found(store)
        record = next(number for number in range(len(MADE)) if OFFSETS[number + 1] > at)
        assert findings
        for finding in findings:
            assert (finding.part, finding.mends) == ("list", False)
            assert finding.record is not None
            assert finding.last is not None
            assert finding.record <= record <= finding.last or finding.record > record
            assert finding.last - finding.record < STRIDE
        assert any(f.record is not None and f.last is not None and f.record <= record <= f.last for f in findings)
        assert repair_log(store, 0) == []
        assert path.read_bytes() == damaged, "a repair has touched the list"
    finally:
        path.write_bytes(good)


def test_damage_in_several_places_is_found_in_each(store: Store) -> None:
    def change(data: bytearray) -> None:
        data[OFFSETS[10] + 60] ^= 1  # in the data: the template digest tells which record
        data[OFFSETS[1200]] = 11  # another register: told by the stretch alone
        data[OFFSETS[2500] + 24 : OFFSETS[2500] + 28] = b"\xff" * 4  # no record any more

    edit(the_list(store), change)
    findings = [(finding.record, finding.last) for finding in found(store)]
    assert findings == [(10, 10), (1024, 2047), (2500, 2999)]


def test_records_taken_out_put_in_or_swapped_are_found(store: Store) -> None:
    path = the_list(store)
    good = path.read_bytes()

    def cut(data: bytearray) -> None:
        del data[OFFSETS[100] : OFFSETS[101]]
        data += MADE[100].binary()

    def swap(data: bytearray) -> None:
        first, second = data[OFFSETS[5] : OFFSETS[6]], data[OFFSETS[6] : OFFSETS[7]]
        data[OFFSETS[5] : OFFSETS[7]] = second + first

    for change in (cut, swap):
        edit(path, change)
        assert [(f.record, f.last) for f in found(store)][:1] == [(0, 1023)]
        path.write_bytes(good)
    assert found(store) == []


def test_without_an_index_the_journal_tells(store: Store) -> None:
    (store.directory_of(0) / "index").unlink()
    edit(the_list(store), lambda data: data.__setitem__(OFFSETS[2100], 12))
    findings = found(store)
    assert [(f.part, f.record, f.last) for f in findings] == [("index", None, None), ("list", 1500, 2999)]
    assert repair_log(store, 0) == [], "an index is not made of a list that is damaged"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: edit(path, lambda data: data.__setitem__(5, 0)),
        lambda path: edit(path, lambda data: data.__setitem__(-1, data[-1] ^ 1)),
        lambda path: edit(path, lambda data: data.__delitem__(slice(-40, None))),
        lambda path: edit(path, lambda data: data.extend(bytes(200))),
    ],
)
def test_an_index_is_made_anew(store: Store, damage: Callable[[Path], object]) -> None:
    path = store.directory_of(0) / "index"
    good, kept = path.read_bytes(), the_list(store).read_bytes()
    damage(path)
    findings = found(store)
    assert {(finding.part, finding.mends) for finding in findings} == {("index", True)}
    assert repair_log(store, 0) == ["log 0000: the index was made anew: 2 marks"]
    assert (path.read_bytes(), the_list(store).read_bytes()) == (good, kept)
    assert found(store) == []


def test_what_a_run_left_is_cut_and_kept_beside(store: Store) -> None:
    tail = ng(b"/new").binary() + b"torn"
    with the_list(store).open("ab") as file:
        file.write(tail)
    with (store.directory_of(0) / "journal").open("ab") as file:
        file.write(b'{"event": "ke')
    assert {(finding.part, finding.mends) for finding in found(store)} == {("journal", True), ("list", True)}
    assert len(repair_log(store, 0)) == 2
    assert found(store) == []
    assert the_list(store).read_bytes() == binary(MADE) + ng(b"/new").binary()
    copies = {path.name.split(".cut-")[0]: path for path in store.directory_of(0).glob("*.cut-*")}
    assert {name: path.read_bytes() for name, path in copies.items()} == {"list": tail, "journal": b'{"event": "ke'}
    assert {path.stat().st_mode & 0o777 for path in copies.values()} == {0o600}


def test_a_list_that_is_gone_is_not_made_again(store: Store) -> None:
    the_list(store).unlink()
    (finding,) = found(store)
    assert (finding.part, finding.mends) == ("list", False)


@pytest.mark.parametrize("name", ["journal", "index", "store"])
def test_what_is_wrong_is_told_by_the_file_and_not_by_where_the_store_is(
    store: Store, tmp_path: Path, name: str
) -> None:
    moved = Store(store.path.rename(tmp_path / name))
    os.truncate(the_list(moved), 100)
    assert [finding.part for finding in found(moved)] == ["list"]


def test_who_may_look_and_write(store: Store, tmp_path: Path) -> None:
    directory = store.directory_of(0)
    (directory / "list").chmod(0o640)
    directory.chmod(0o755)
    assert [(f.part, f.mends) for f in found(store)] == [("store", True)] * 2
    assert len(repair_log(store, 0)) == 2
    assert found(store) == []
    (directory / "journal").chmod(0o660)
    assert [(f.part, f.mends) for f in found(store)] == [("store", False), ("journal", False)]
    with pytest.raises(RefusedOperation, match="others may write"):
        store.log(0)
    (directory / "journal").chmod(0o600)
    (directory / "index").rename(tmp_path / "index")
    (directory / "index").symlink_to(tmp_path / "index")
    with pytest.raises(RefusedOperation, match="is a link"):
        store.log(0)


def test_files_of_another_user_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr("imarium.custody.ownership.os.geteuid", lambda: uid + 1)
    with pytest.raises(RefusedOperation, match="belongs to user"):
        store.log(0)


def test_a_log_without_a_known_start_is_checked_too(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", MADE, start="unknown")
    write_index(log)
    store = Store(tmp_path / "store")
    assert found(store) == []
    edit(log.list_path, lambda data: data.__setitem__(OFFSETS[1500], 13))
    assert [(f.record, f.last) for f in check_log(store, 0)] == [(1024, 2047)]


def test_findings_are_documents() -> None:
    finding = Finding("list", "why", 3, 10, 12)
    assert finding.to_document() == {
        "part": "list", "log": 3, "record": 10, "last": 12, "detail": "why", "mends": False,
    }  # fmt: skip
    assert replace(finding, mends=True).to_document()["mends"] is True
