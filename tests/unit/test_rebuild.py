"""A journal or ``meta.json`` that is damaged or gone is made again from the list, and claims no more than it shows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tests.unit.builders import binary
from tests.unit.custody_host import Host
from tests.unit.custody_kernel import records
from tests.unit.test_check import MADE, OFFSETS, edit, whole

from imarium import durable
from imarium.chain import replay
from imarium.custody import Event, Log, LogMeta, Retention, Store, no_registers, retain
from imarium.custody.check import check_store
from imarium.custody.indexing import write_index
from imarium.custody.journal import UnwrittenJournal
from imarium.custody.repair import repair_log
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.records import ListLayout
from imarium.hashes import SHA1, SHA256

if TYPE_CHECKING:
    from collections.abc import Callable

    from imarium.formats.fields import ByteOrder

KEPT = ["boot_aggregate", "a", "b", "c", "d"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "store"
    whole(place)
    return place


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    shutil.copytree(made, tmp_path / "store", copy_function=shutil.copy2)
    return Store(tmp_path / "store")


def kept(host: Host) -> Path:
    """Two runs of custody; the directory of the log."""
    host.kernel.measure("a", "b")
    host.keep()
    host.kernel.measure("c", "d")
    host.keep()
    return host.path / "logs" / "0000"


def flip(path: Path, at: int, change: int = 1) -> None:
    edit(path, lambda data: data.__setitem__(at, data[at] ^ change))


def repaired(place: Path) -> list[str]:
    """Repair the store's first log; nothing is wrong with it then."""
    done = repair_log(Store(place), 0)
    assert list(check_store(Store(place))) == []
    return done


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["journal", "meta.json"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@example(share=0.109375, change=41)
def test_any_changed_byte_is_mended_and_custody_goes_on(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float, change: int
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    directory = kept(host)
    path = directory / name
    good = path.read_bytes()
    flip(path, int(share * len(good)), change)
    damaged, stored = path.read_bytes(), (directory / "list").read_bytes()
    assume(damaged.split() != good.split())  # other white space says the same
    assert all(finding.mends for finding in check_store(Store(host.path)))
    repaired(host.path)
    assert (directory / "list").read_bytes() == stored
    copies = [copy.read_bytes() for copy in directory.glob(f"{name}.*-*")]
    assert len(copies) == 1
    assert damaged.endswith(copies[0])
    assert Log(directory).end_state() == host.kernel.state
    host.kernel.measure("e")
    result = host.keep()
    assert (result.verdict, result.log, result.kept_records, result.freed_records) == ("proven", 0, 1, 1)
    assert (directory / "list").read_bytes() == records(*KEPT, "e")


@pytest.mark.parametrize("at", [5, 2000])
def test_good_lines_stay_and_the_new_one_says_what_the_list_shows(store: Store, at: int) -> None:
    directory = store.directory_of(0)
    before = Log(directory).journal.entries
    flip(directory / "journal", min(at, (directory / "journal").stat().st_size // 2))
    done = repaired(store.path)
    assert len(done) == 1
    assert "journal was rebuilt from the list; journal.damaged-" in done[0]
    log = Log(directory)
    *good, last = log.journal.entries
    assert good == before[: len(good)]
    assert (last.event, last.records, last.bytes, last.registers) == (Event.REBUILT, len(MADE), OFFSETS[-1], ())
    assert last.state == replay([binary(MADE)], ListLayout(), (SHA1, SHA256)).state
    assert "are lost" in last.detail
    assert (log.broken, log.rebuilt) == (True, True)
    assert log.resumed_state() == last.state


@pytest.mark.parametrize("names", [("journal",), ("meta.json",), ("journal", "meta.json")])
def test_missing_files_are_made_again(tmp_path: Path, names: tuple[str, ...]) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    for name in names:
        (directory / name).unlink()
    assert {finding.part for finding in check_store(Store(host.path))} >= {name.split(".")[0] for name in names}
    repaired(host.path)
    log = Log(directory)
    known = len(names) == 1
    assert (log.meta.start, log.records, log.proved_by) == (
        "reset" if known else "unknown", 5, () if "journal" in names else log.proved_by,
    )  # fmt: skip
    assert ("was rebuilt" in log.meta.reason) == ("meta.json" in names)
    assert (log.noted_state is not None) == known
    host.kernel.measure("e")
    result = host.keep()
    if known:
        assert (result.verdict, result.log, result.freed_records) == ("proven", 0, 1)
        assert (directory / "list").read_bytes() == records(*KEPT, "e")
    else:
        assert (result.verdict, result.freed_records, host.kernel.staged_list) == ("refused", 0, b"")
        assert host.kernel.current_list == records("e"), "nothing is deleted where nothing is proved"
    host.kernel.boot()
    host.boot_id = "second"
    assert host.keep().verdict == "proven"


def test_without_registers_content_decides(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=False)
    host.kernel.measure("a", "b")
    host.keep("follow")
    directory = host.path / "logs" / "0000"
    (directory / "journal").unlink()
    repaired(host.path)
    host.kernel.measure("c")
    result = host.keep("follow")
    assert (result.verdict, result.log, result.kept_records) == ("unproven", 0, 1)
    assert (directory / "list").read_bytes() == records("boot_aggregate", "a", "b", "c")


def test_without_registers_and_nothing_in_common_nothing_is_deleted(tmp_path: Path) -> None:
    host = Host(tmp_path, tpm=False)
    directory = kept(host)
    flip(directory / "journal", 5)
    repaired(host.path)
    host.kernel.measure("e")
    result = host.keep()
    assert (result.verdict, result.log, result.freed_records) == ("refused", 1, 0)
    assert host.kernel.current_list == records("e")
    assert (directory / "list").read_bytes() == records(*KEPT)


def test_registers_that_vanished_are_asked_for_as_far_as_lines_are_whole(tmp_path: Path) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    lines = (directory / "journal").read_bytes().splitlines(keepends=True)
    flip(directory / "journal", sum(map(len, lines[:-2])) + 5)
    repaired(host.path)
    host.registers = no_registers
    host.kernel.measure("e")
    assert host.keep().freed_records == 0


@pytest.mark.parametrize("torn", [b"", records("e")[:-3]])
def test_a_kexec_in_lines_that_are_lost_does_not_end_the_log(tmp_path: Path, torn: bytes) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    size = (directory / "journal").stat().st_size
    host.kernel.kexec()
    host.boot_id = "second"
    host.keep()
    flip(directory / "journal", size + 5)
    with (directory / "list").open("ab") as file:
        file.write(torn)
    repaired(host.path)
    log = Log(directory)
    assert (log.broken, log.rebuilt) == (True, True)
    host.kernel.measure("e")
    result = host.keep()
    assert (result.verdict, result.log, result.freed_records) == ("proven", 0, 1)
    assert (directory / "list").read_bytes() == records(*KEPT, "boot_aggregate", "e")
    log = Log(directory)
    assert (log.broken, log.rebuilt) == (False, False)


def test_what_the_list_has_behind_its_last_whole_record_is_cut_after(tmp_path: Path) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    (directory / "journal").unlink()
    with (directory / "list").open("ab") as file:
        file.write(records("e")[:-3])
    assert len(repaired(host.path)) == 2
    assert (directory / "list").read_bytes() == records(*KEPT)


@pytest.mark.parametrize("name", ["journal", "meta.json"])
@pytest.mark.parametrize("at", [OFFSETS[10] + 60, OFFSETS[1200], OFFSETS[2500] + 24])
def test_nothing_is_made_beside_a_damaged_list(store: Store, name: str, at: int) -> None:
    directory = store.directory_of(0)
    flip(directory / name, 20)
    flip(directory / "list", at)  # the second is another register: told by the index and the journal alone
    before = content(directory)
    assert not any(finding.mends for finding in check_store(store) if finding.part != "index")
    assert repair_log(store, 0) == []
    assert content(directory) == before


def test_padded_banks_are_told_from_the_noted_state(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", create=True)
    log = store.begin(LogMeta("little", "2026-01-01T00:00:00", "boot", "reset", "t", frozenset({SHA256})))
    made = binary(MADE[:50])
    log.list_path.write_bytes(made)
    log.grow(50, len(made))
    state = replay([made], ListLayout(), (SHA1, SHA256), padded=(SHA256,)).state
    log.note(Event.KEPT, "boot", base=0, state=state)
    write_index(log)
    flip(log.directory / "meta.json", 30)
    repaired(store.path)
    assert (Log(log.directory).meta.padded, Log(log.directory).meta.start) == (frozenset({SHA256}), "reset")


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_byte_order_is_told_from_the_list(tmp_path: Path, order: ByteOrder) -> None:
    store = Store(tmp_path / "store", create=True)
    log = store.begin(LogMeta(order, "2026-01-01T00:00:00", "boot", "reset", "t"))
    made = binary(MADE[:20], order=order)
    log.list_path.write_bytes(made)
    log.grow(20, len(made))
    log.note(Event.KEPT, "boot", base=0, state=None)
    write_index(log)
    (log.directory / "meta.json").unlink()
    repaired(store.path)
    assert Log(log.directory).meta.byte_order == order


def test_what_another_version_wrote_is_left_alone(store: Store) -> None:
    directory = store.directory_of(0)
    entries = Log(directory).journal.entries
    document = entries[0].to_document() | {"event": "unheard-of"}
    good = content(directory)

    class Later:
        def to_document(self) -> dict[str, object]:
            return document

    UnwrittenJournal(directory / "journal", [Later(), *entries]).write()  # type: ignore[list-item]
    before = content(directory)
    assert [finding.mends for finding in check_store(store)] == [False]
    assert repair_log(store, 0) == []
    assert content(directory) == before
    (directory / "journal").write_bytes(good["journal"])
    meta = json.loads(good["meta.json"]) | {"version": 2}
    del meta["sum"]
    text = json.dumps(meta, separators=(",", ":"), sort_keys=True)
    (directory / "meta.json").write_text(json.dumps(meta | {"sum": hashlib.sha256(text.encode()).hexdigest()[:32]}))
    assert [finding.mends for finding in check_store(store)] == [False]
    assert repair_log(store, 0) == []


class Died(Exception):
    """The simulated kill."""


def _dying(call: Callable[..., object], at: int, count: list[int]) -> Callable[..., object]:
    def dies(*arguments: object, **options: object) -> object:
        count[0] += 1
        if count[0] == at:
            raise Died
        return call(*arguments, **options)

    return dies


CALLS = ["append_blocks", "sync_file", "sync_directory", "replace_file", "replace_blocks"]


@pytest.mark.parametrize("at", range(1, 20))
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, at: int) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    for name in ("journal", "meta.json"):
        flip(directory / name, 5 if name == "meta.json" else 1500)
    before = content(directory)
    count = [0]
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(durable, name, _dying(getattr(durable, name), at, count))
        patch.setattr(os, "fsync", _dying(os.fsync, at, count))
        try:
            repair_log(Store(host.path), 0)
        except Died:
            died = True
        else:
            died = False
    assert died == (count[0] >= at)
    for name in ("journal", "meta.json"):
        if (directory / name).read_bytes() != before[name]:
            continue
        with pytest.raises((MalformedInput, MissingComponent)):
            Log(directory)
    assert (directory / "list").read_bytes() == records(*KEPT)
    repaired(host.path)
    host.kernel.measure("e")
    assert host.keep().verdict == "proven"
    assert (directory / "list").read_bytes() == records(*KEPT, "e")
    assert not list(directory.glob(".*.new"))


def test_a_compressed_log_is_mended_too(tmp_path: Path) -> None:
    host = Host(tmp_path)
    directory = kept(host)
    host.kernel.boot()
    host.boot_id = "second"
    host.keep()
    assert [one.action for one in retain(Store(host.path), Retention())] == ["compressed"]
    flip(directory / "journal", 5)
    (directory / "meta.json").unlink()
    repaired(host.path)
    assert b"".join(Log(directory).blocks()) == records(*KEPT)
