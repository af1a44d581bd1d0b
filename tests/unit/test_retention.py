"""Closed logs: compressed and read as before, deleted when told, and whole whatever happens in between."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.builders import binary, ng

from imarium import durable
from imarium.chain import replay
from imarium.custody import Event, Log, LogMeta, Store, StoreBusy
from imarium.custody.check import check_store
from imarium.custody.indexing import write_index
from imarium.custody.packed import PACKED_FILE, PackedList, pack
from imarium.custody.retention import Retained, Retention, retain
from imarium.errors import ImariumError, MalformedInput, MissingComponent, RefusedOperation
from imarium.formats.records import ListLayout

if TYPE_CHECKING:
    from collections.abc import Iterable

MADE = [ng(b"boot_aggregate"), *(ng(b"/bin/%d" % number) for number in range(1, 6000))]
DATA = binary(MADE)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def logged(store: Store, count: int) -> Log:
    log = store.begin(LogMeta("little", "2026-01-01T00:00:00+00:00", f"boot{len(store.numbers)}", "reset", "test"))
    data = binary(MADE[:count])
    log.list_path.write_bytes(data)
    log.grow(count, len(data))
    log.note(Event.KEPT, "boot", base=0)
    write_index(log)
    return log


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three logs, of which the last is the current one."""
    store = Store(tmp_path / "store", create=True)
    for count in (6000, 10, 100):
        logged(store, count)
    return store


def test_closed_logs_are_compressed_and_read_as_before(store: Store) -> None:
    done = list(retain(store, Retention()))
    assert [(one.log, one.action) for one in done] == [(0, "compressed"), (1, "compressed")]
    assert sum(one.freed for one in done) > len(DATA) // 4
    log = store.log(0)
    assert not log.list_path.exists()
    assert log.stored_path.name == PACKED_FILE
    assert log.stored_path.stat().st_mode & 0o777 == 0o600
    assert store.log(2).list_path.exists(), "the current log is not touched"
    assert b"".join(log.blocks()) == DATA
    assert [record.number for record in log.records_from(5990)] == list(range(5990, 6000))
    assert log.state_at(4100) == replay([binary(MADE[:4100])], ListLayout()).state
    assert log.end_state() == replay([DATA], ListLayout()).state
    assert list(retain(store, Retention())) == []
    assert list(check_store(store)) == []


def test_a_damaged_log_stays_and_hinders_no_other(store: Store) -> None:
    (store.directory_of(0) / "journal").write_bytes(b"{}\n{}\n")
    done = []
    with pytest.raises(MalformedInput, match="0000/journal"):
        for one in retain(store, Retention(larger_than=1)):
            done.append((one.log, one.action))
    assert done == [(1, "deleted")]
    assert store.numbers == (0, 2)


def test_a_log_that_cannot_be_compressed_stays_and_hinders_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = durable.append_blocks

    def full(path: Path, blocks: Iterable[bytes], *, size: int) -> None:
        if path.parent == store.directory_of(0):
            raise MissingComponent(f"{path}: no space left on device")
        append(path, blocks, size=size)

    monkeypatch.setattr(durable, "append_blocks", full)
    done = []
    with pytest.raises(MissingComponent, match="no space left"):
        for one in retain(store, Retention()):
            done.append((one.log, one.action))
    assert done == [(1, "compressed")]
    assert store.log(0).list_path.read_bytes() == DATA


def test_a_store_that_is_in_use_ends_it(store: Store) -> None:
    impatient = Store(store.path)
    with store.lock(), pytest.raises(StoreBusy):
        list(retain(impatient, Retention()))


def test_any_program_that_knows_zstandard_reads_a_compressed_list(store: Store, tmp_path: Path) -> None:
    program = shutil.which("zstd")
    assert program is not None, "zstd is missing: apt install zstd"
    list(retain(store, Retention()))
    subprocess.run([program, "-q", "-d", store.log(0).stored_path, "-o", tmp_path / "plain"], check=True)
    assert (tmp_path / "plain").read_bytes() == DATA


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_compressed_list_is_read_from_any_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("packed") / "list.zst"
    body = (DATA * 3)[: data.draw(st.sampled_from([0, 1, 1 << 18, (1 << 18) + 1, 3 * len(DATA)]))]
    path.write_bytes(b"".join(pack([body])))
    packed = PackedList(path)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    assert packed.size == len(body)
    assert b"".join(packed.blocks(start, end)) == body[start:end]


def test_damage_of_a_compressed_list_is_seen(store: Store) -> None:
    list(retain(store, Retention()))
    path = store.log(0).stored_path
    good = path.read_bytes()
    for at in [*range(0, len(good), len(good) // 40), *range(len(good) - 40, len(good))]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x20]) + good[at + 1 :])
        with pytest.raises(ImariumError):
            b"".join(store.log(0).blocks())
        assert list(check_store(store)), f"byte {at} is not checked"
    for size in (0, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(ImariumError):
            store.log(0)
    path.write_bytes(good)
    assert list(check_store(store)) == []


def test_a_frame_that_claims_to_be_huge_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "list.zst"
    whole = b"".join(pack([bytes(1000)]))
    bomb = b"".join(pack([bytes(1 << 18)]))
    frame = bomb[: bomb.index(b"\x5e\x2a\x4d\x18")]
    table = whole[whole.index(b"\x5e\x2a\x4d\x18") :]
    table = table[:8] + len(frame).to_bytes(4, "little") + table[12:]
    path.write_bytes(frame + table)
    with pytest.raises(MalformedInput, match="a frame of 1000 bytes"):
        b"".join(PackedList(path).blocks(0, 1000))


def test_logs_are_deleted_by_age_only_when_told(store: Store) -> None:
    _age(store, 0, "2026-02-01T00:00:00+00:00")
    _age(store, 1, "2026-05-31T00:00:00+00:00")
    _age(store, 2, "2020-01-01T00:00:00+00:00")
    wanted = Retention(compress=False, older_than=timedelta(days=30))
    assert [(one.log, one.action) for one in retain(store, wanted, now=NOW, dry=True)] == [(0, "deleted")]
    assert len(store.numbers) == 3
    assert [(one.log, one.action) for one in retain(store, wanted, now=NOW)] == [(0, "deleted")]
    remaining: tuple[int, ...] = Store(store.path).numbers
    assert remaining == (1, 2), "the newest stays, however old it is"
    last = store.log().journal.last
    assert last is not None
    assert (last.event, last.detail[:8]) == (Event.REMOVED, "log 0000")
    assert logged(store, 5).number == 3


def _age(store: Store, number: int, at: str) -> None:
    """Has the log end then."""
    log = store.log(number)
    log.journal.path.write_bytes(b"")
    object.__setattr__(log.meta, "created", at)
    durable.replace_file(log.directory / "meta.json", log.meta.to_bytes())


def test_a_log_whose_age_is_not_known_stays(store: Store) -> None:
    _age(store, 0, "yesterday")
    assert list(retain(store, Retention(compress=False, older_than=timedelta(days=1)), now=NOW)) == []


def test_logs_are_deleted_by_size_oldest_first(store: Store) -> None:
    for dry in (True, False):
        done = list(retain(store, Retention(larger_than=len(DATA) // 2), dry=dry))
        assert [(one.log, one.action) for one in done] == [(0, "deleted"), (1, "compressed")]
    assert list(store.numbers) == [1, 2]
    assert [one.log for one in retain(store, Retention(larger_than=1))] == [1]
    assert list(store.numbers) == [2]


def test_the_newest_log_is_never_removed(store: Store) -> None:
    with pytest.raises(RefusedOperation, match="newest"):
        store.remove(2)


STEPS = ("append_blocks", "sync_file", "publish_file", "remove_file", "publish_directory", "sync_directory")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_dies_leaves_logs_that_read_as_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    class Died(BaseException):
        pass

    plain = getattr(durable, step)
    calls = 0

    def dying(*arguments: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if after:
            plain(*arguments, **options)
        raise Died

    for wanted in (Retention(), Retention(compress=False, larger_than=1)):
        with monkeypatch.context() as patched:
            patched.setattr(durable, step, dying)
            with contextlib.suppress(Died):
                list(retain(store, wanted))
        again = Store(store.path)
        for number in again.numbers:
            count = {0: 6000, 1: 10, 2: 100}[number]
            assert b"".join(again.log(number).blocks()) == binary(MADE[:count])
        list(retain(again, Retention()))
        assert list(check_store(again)) == []
    assert calls


def test_deletions_are_noted_whole_in_a_journal_that_a_run_left_torn(store: Store) -> None:
    journal = store.directory_of(2) / "journal"
    with journal.open("ab") as file:
        file.write(b'{"event":"del')
    assert [one.log for one in retain(store, Retention(compress=False, larger_than=1))] == [0, 1]
    newest = store.log().journal
    assert (newest.torn, [entry.event for entry in newest.entries[-2:]]) == (0, [Event.REMOVED] * 2)


def test_custody_goes_on_while_a_list_is_compressed_and_one_does_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = durable.append_blocks, []

    def packing(path: Path, blocks: Iterable[bytes], *, size: int) -> None:
        with Store(store.path).lock():
            seen.append(path.parent.name)
        with pytest.raises(StoreBusy, match="another process compresses or deletes logs"):
            list(retain(Store(store.path), Retention()))
        plain(path, blocks, size=size)

    monkeypatch.setattr(durable, "append_blocks", packing)
    assert [one.action for one in retain(store, Retention())] == ["compressed", "compressed"]
    assert seen == ["0000", "0001"]


def test_a_list_that_there_is_no_room_to_compress_leaves_nothing_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name for path in store.directory_of(0).iterdir()}
    plain = durable.append_blocks

    def full(path: Path, blocks: Iterable[bytes], *, size: int) -> None:
        plain(path, [b"".join(blocks)[:1000]], size=size)
        raise MissingComponent(f"{path}: No space left on device")

    monkeypatch.setattr(durable, "append_blocks", full)
    with pytest.raises(MissingComponent, match="No space left"):
        list(retain(store, Retention()))
    assert {path.name for path in store.directory_of(0).iterdir()} == before


def test_what_was_done_is_a_document() -> None:
    done = Retained(3, "deleted", 10, "why")
    assert done.to_document() == {"log": 3, "action": "deleted", "freed": 10, "reason": "why"}
