"""The store on disk: torn tails, damage, permissions, and the lock between processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.custody_kernel import Kernel, record, records

from imarium import durable
from imarium.chain import ChainState
from imarium.custody import Entry, Event, Keeper, Log, LogMeta, Step, Store, StoreBusy, default_store
from imarium.custody.journal import MAX_JOURNAL, Journal
from imarium.custody.meta import read_meta
from imarium.custody.steps import no_hook
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA384


def meta() -> LogMeta:
    return LogMeta("little", "2026-01-01T00:00:00+00:00", "boot", "reset", "test", frozenset({SHA384}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


@pytest.fixture
def log(store: Store) -> Log:
    """A log with two kept records."""
    log = store.begin(meta())
    data = records("boot_aggregate", "a")
    log.list_path.write_bytes(data)
    log.grow(2, len(data))
    log.note(Event.KEPT, "boot", base=0)
    return log


def test_modes_and_names(store: Store, log: Log) -> None:
    assert {path.name for path in log.directory.iterdir()} == {"list", "journal", "meta.json"}
    assert store.path.stat().st_mode & 0o777 == 0o700
    assert log.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in log.directory.iterdir()} == {0o600}
    assert store.numbers == (0,)
    assert store.begin(meta()).number == 1


def test_a_store_that_others_can_change_is_refused(store: Store) -> None:
    store.path.chmod(0o770)
    with pytest.raises(RefusedOperation, match="others may write"):
        Store(store.path)


def test_a_store_of_another_user_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: store.path.stat().st_uid + 1)
    with pytest.raises(RefusedOperation, match="belongs to user"):
        Store(store.path)


def test_the_default_store_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_store() == Path("/state/imarium")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_store() == Path("/home/someone/.local/state/imarium")
    monkeypatch.delenv("HOME")
    with pytest.raises(MissingComponent, match="--store"):
        default_store()


def test_no_store_and_no_log(tmp_path: Path, store: Store) -> None:
    with pytest.raises(MissingComponent, match="no store"):
        Store(tmp_path / "elsewhere")
    with pytest.raises(MissingComponent, match="nothing is kept"):
        store.log()
    store.begin(meta())
    with pytest.raises(UsageError, match="no log 7"):
        store.log(7)


def test_a_log_half_begun_is_swept(store: Store) -> None:
    (store.path / "logs" / ".new-0000").mkdir()
    (store.path / "logs" / ".new-0000" / "list").write_bytes(b"x")
    assert store.numbers == ()
    store.sweep()
    assert list((store.path / "logs").iterdir()) == []


def test_meta_goes_round_and_damage_is_seen(log: Log) -> None:
    path = log.directory / "meta.json"
    assert read_meta(path) == meta()
    text = path.read_text()
    for damaged in (text.replace("reset", "unknown"), text[:20], "[]", text.replace('"version": 1', '"version": 2')):
        path.write_text(damaged)
        with pytest.raises(MalformedInput):
            read_meta(path)


@pytest.mark.parametrize("cut", range(1, len(record("torn")) + 1))
def test_a_torn_tail_is_cut_to_whole_records(log: Log, cut: int) -> None:
    with log.list_path.open("ab") as file:
        file.write((record("b") + record("torn"))[: len(record("b")) + cut - 1])
    again = Log(log.directory)
    assert again.records == 2
    again.recover()
    assert again.records == 3
    assert log.list_path.read_bytes() == records("boot_aggregate", "a", "b")
    assert (Log(log.directory).records, Log(log.directory).boot_id) == (3, "boot")


def test_a_record_with_a_wrong_digest_is_cut(log: Log) -> None:
    bad = bytearray(record("b"))
    bad[-2] ^= 1
    with log.list_path.open("ab") as file:
        file.write(bytes(bad) + record("c"))
    again = Log(log.directory)
    assert again.recover() == len(bad) + len(record("c"))
    assert (again.records, log.list_path.read_bytes()) == (2, records("boot_aggregate", "a"))


def test_a_list_shorter_than_journaled_is_an_error(log: Log) -> None:
    os.truncate(log.list_path, 10)
    with pytest.raises(MissingComponent, match="were kept; restore it"):
        Log(log.directory)


def journal_of(path: Path) -> Path:
    path.write_bytes(b"")
    journal = Journal(path)
    for number in range(3):
        journal.append(Entry(Event.KEPT, "now", "boot", number, number * 10, 0, ChainState(number), "é"))
    return path


def test_the_registers_of_a_journal_line_go_round(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"")
    journal = Journal(path)
    for registers in ((), (IMA_PCR, PcrIndex(11))):
        journal.append(Entry(Event.KEPT, "now", "boot", 1, 10, 0, registers=registers))
    assert [entry.registers for entry in Journal(path).entries] == [(), (IMA_PCR, PcrIndex(11))]
    assert [json.loads(line).get("registers") for line in path.read_bytes().splitlines()] == [None, [10, 11]]


def test_a_journal_torn_at_any_byte_of_its_last_line_is_mended(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "journal")
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end] + bytes(end % 3))
        journal = Journal(path)
        assert [entry.records for entry in journal.entries] == [0, 1]
        journal.repair()
        journal.append(Entry(Event.DELETED, "now", "boot", 9, 90, 90))
        assert [entry.records for entry in Journal(path).entries] == [0, 1, 9]
    path.write_bytes(whole)
    assert Journal(path).entries == [
        Entry(Event.KEPT, "now", "boot", number, number * 10, 0, ChainState(number), "é") for number in range(3)
    ]


def test_a_journal_damaged_before_its_last_line_is_an_error(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    document = json.loads(lines[1])
    document["records"] = 7
    changed = json.dumps(document).encode() + b"\n"
    for damaged in (
        [lines[0], changed, lines[2]],
        [lines[0], b"\n", lines[2]],
        [lines[1], lines[2]],
        [b"{}\n", *lines],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(MalformedInput, match="journal"):
            Journal(path)


@pytest.mark.parametrize("name", ["append", "sync_file"])
def test_a_line_that_cannot_be_written_durably_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = journal_of(tmp_path / "journal")
    whole, journal = path.read_bytes(), Journal(path)
    plain = getattr(durable, name)

    def failing(path: Path, *arguments: bytes) -> None:
        plain(path, *(data[:7] for data in arguments))
        monkeypatch.undo()
        raise MissingComponent(f"{path}: Input/output error")

    monkeypatch.setattr(durable, name, failing)
    with pytest.raises(MissingComponent, match="Input/output error"):
        journal.append(Entry(Event.DELETED, "now", "boot", 9, 90, 90))
    assert path.read_bytes() == whole
    journal.append(Entry(Event.DELETED, "now", "boot", 9, 90, 90))
    assert [entry.records for entry in Journal(path).entries] == [0, 1, 2, 9]


def test_what_is_nested_as_deep_as_can_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        nested = "[" * depth + "]" * depth
        path.write_text(f'{{"sum":"","event":{nested}}}\n\n')
        with pytest.raises(MalformedInput):
            Journal(path)
        path.write_text(f'{{"type":"imarium-log","version":1,"sum":"","reason":{nested}}}')
        with pytest.raises(MalformedInput):
            read_meta(path)


def test_a_list_put_in_the_place_of_an_open_one_is_seen_before_anything_is_deleted(store: Store) -> None:
    kernel = Kernel()
    kernel.boot()
    keeper = Keeper(store, kernel, boot_id="boot", registers=kernel.registers)
    keeper.once()
    path = store.log().list_path
    for name, step in (("a", Step.LOCKED), ("b", Step.READ_ALL)):

        def restore(reached: Step, wanted: Step = step) -> None:
            if reached is wanted:
                copy = path.with_name("copy")
                copy.write_bytes(path.read_bytes())
                copy.chmod(0o600)
                copy.replace(path)

        kernel.measure(name)
        keeper._hook = restore
        if step is Step.READ_ALL:
            with pytest.raises(MissingComponent, match="was replaced while it was written to"):
                keeper.once()
            assert kernel.staged_list == record(name)
            keeper._hook = no_hook
        assert keeper.once().verdict == "proven"
        assert kernel.staged_list + kernel.current_list == b""
    assert path.read_bytes() == records("boot_aggregate", "a", "b")
    keeper.close()


def test_a_whole_last_line_of_another_version_is_an_error_and_stays(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "journal")
    whole = path.read_bytes()
    previous = json.loads(whole.splitlines()[-1])["sum"]
    good = json.loads(whole.splitlines()[-1])
    del good["sum"]
    for changes in (
        {"event": "of-tomorrow"},
        {"base": 21},
        {"bytes": True},
        {"state": {"type": "other"}},
        {"registers": [64]},
    ):
        document = good | changes
        text = json.dumps(document, separators=(",", ":"), sort_keys=True)
        checksum = hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()[:32]
        line = json.dumps({**document, "sum": checksum}).encode() + b"\n"
        path.write_bytes(whole + line)
        with pytest.raises(MalformedInput, match=r"journal: at byte \d+: .* line 4: "):
            Journal(path)
        assert path.read_bytes() == whole + line


def test_a_journal_is_read_to_a_bound(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "journal")
    os.truncate(path, MAX_JOURNAL + 1)
    with pytest.raises(MalformedInput, match=f"at most {MAX_JOURNAL} bytes"):
        Journal(path)
    os.truncate(path, MAX_JOURNAL)
    with pytest.raises(MalformedInput, match="line 4: it does not end"):
        Journal(path)


HOLDER = """
import sys, time
from pathlib import Path
from imarium.custody import Store
with Store(Path(sys.argv[1])).lock(shared=sys.argv[2] == "shared"):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_a_second_process_is_refused_and_told_who_is_there(store: Store, how: str) -> None:
    kernel = Kernel()
    kernel.boot()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(store.path), how], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(StoreBusy, match=f"process {holder.pid}"):
            Keeper(store, kernel, boot_id="boot").once()
        if how == "shared":
            with store.lock(shared=True):
                pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert Keeper(store, kernel, boot_id="boot").once().kept_records == 1
