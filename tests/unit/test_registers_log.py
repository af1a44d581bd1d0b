"""Event logs: what an append and an extend leave, what is refused, and what is made of damage."""

import errno
import fcntl
import json
import os
import re
import threading
from pathlib import Path

import pytest
from tests.unit.register_logs import RTMR, SHA256, STATIC, events, last_sync

from imarium.errors import MalformedInput, MissingComponent, UsageError
from imarium.registers import (
    Access,
    EventLog,
    FileRegisters,
    ForeignExtend,
    LogBusy,
    MemoryRegisters,
    Register,
    RegisterBusy,
    RegisterReadOnly,
    TextTooLong,
    default_directory,
    replay,
)
from imarium.registers.text import PAGE, sync_line


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Processes die here, not machines: what was written is there without a sync."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _descriptor: None)


@pytest.fixture
def provider():
    return MemoryRegisters([RTMR, STATIC], {RTMR: b"\1" * 32})


@pytest.fixture
def log(provider, tmp_path):
    return EventLog(provider, RTMR, tmp_path / "logs")


def test_the_first_append_writes_a_sync_line_that_is_itself_extended(log, provider):
    done = log.append(b"event\n")
    sync = sync_line(SHA256, b"\1" * 32)
    assert log.read() == sync + b"\nevent\n"
    assert provider.read(RTMR) == done.value == events(b"\1" * 32, sync, b"event")
    assert (done.lines, done.events, done.synced) == (2, 2, True)


def test_comments_are_logged_only(log, provider):
    log.append(b"event")
    value = provider.read(RTMR)
    done = log.append(b" # note\n#\n")
    assert log.read().endswith(b"\nevent\n\n# note\n#\n")
    assert provider.read(RTMR) == value == done.value
    assert (done.lines, done.events) == (2, 0)
    assert log.verify().in_step


def test_each_write_is_set_off_by_a_blank_line(log):
    for text in (b"a\nb", b"c", b"# d"):
        log.append(text)
    log.extend(bytes(32))
    assert log.read().split(b"\n")[1:] == [b"a", b"b", b"", b"c", b"", b"# d", b"", b"# .EXTEND " + b"0" * 64, b""]


@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n\t"])
def test_an_append_of_no_line_does_nothing(log, provider, text):
    assert log.append(text).lines == 0
    assert provider.read(RTMR) == b"\1" * 32
    assert not log.path.exists()


def test_an_extend_is_noted_and_the_next_append_writes_a_sync_line(log, provider):
    log.append(b"a")
    value = log.extend(b"\7" * 32)
    assert value == provider.read(RTMR)
    assert log.read().endswith(b"\n\n# .EXTEND " + b"07" * 32 + b"\n")
    assert not log.verify().in_step
    assert log.append(b"b").synced
    assert log.read().endswith(b"\n\n" + sync_line(SHA256, value) + b"\nb\n")
    assert log.verify().in_step
    assert not log.append(b"c").synced


def test_a_new_log_may_begin_with_an_extend(log):
    log.extend(b"\7" * 32)
    assert not log.verify().in_step
    log.append(b"a")
    assert log.verify(start=last_sync(log)).in_step


def test_an_extend_behind_the_logs_back_is_seen_at_the_next_append(log, provider):
    log.append(b"a")
    provider.extend(RTMR, bytes(32))
    assert not log.verify().in_step
    assert log.append(b"b").synced
    assert not log.verify().in_step
    assert log.verify(start=last_sync(log)).in_step


def test_a_register_that_was_reset_begins_anew_with_a_sync_line(log, tmp_path):
    log.append(b"a")
    before = log.read()
    again = EventLog(MemoryRegisters([RTMR], {RTMR: b"\1" * 32}), RTMR, tmp_path / "logs")
    assert again.append(b"b").synced
    assert again.read().startswith(before)
    assert again.verify(start=last_sync(again)).in_step


def test_text_that_is_refused_leaves_log_and_register_alone(log, provider):
    for text, kind in ((b"x" * (PAGE + 1), TextTooLong), (b"a\0", UsageError)):
        with pytest.raises(kind):
            log.append(text)
    with pytest.raises(UsageError):
        log.extend(bytes(31))
    assert provider.read(RTMR) == b"\1" * 32
    assert not log.path.exists()


def test_a_static_register_has_no_log(provider, tmp_path):
    with pytest.raises(RegisterReadOnly):
        EventLog(provider, STATIC, tmp_path)


def test_rfc_fault_a_stale_digest_after_an_append(log, provider):
    for number in range(5):
        assert log.append(b"event %d" % number).value == provider.read(RTMR)


def test_rfc_fault_an_uninitialised_lock(tmp_path):
    """The very first appends to a log that is not there yet exclude each other like any others."""
    registers = FileRegisters.create(tmp_path / "r", [RTMR])
    barrier = threading.Barrier(4)

    def first_append() -> None:
        barrier.wait()
        EventLog(registers, RTMR, tmp_path / "logs").append(b"event")

    threads = [threading.Thread(target=first_append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = EventLog(registers, RTMR, tmp_path / "logs")
    assert log.read().count(b"SYNC") == 1
    assert log.read().count(b"event\n") == 4
    assert log.verify().in_step


def test_a_log_that_is_held_for_too_long_is_busy(log, provider):
    log.append(b"a")
    value = provider.read(RTMR)
    with log.path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LogBusy):
            EventLog(provider, RTMR, log.path.parent, patience=0.01).append(b"b")
    assert provider.read(RTMR) == value


def test_a_long_log_can_be_appended_to_while_it_is_verified(log, provider, tmp_path, monkeypatch):
    log.append(b"first")
    other = EventLog(provider, RTMR, tmp_path / "logs", patience=0.05)
    real = replay.verify

    def slow(*arguments, **options):
        other.append(b"second")
        return real(*arguments, **options)

    monkeypatch.setattr("imarium.registers.eventlog.verify", slow)
    assert log.verify().in_step
    monkeypatch.undo()
    assert log.verify().events == 3
    log.path.write_bytes(log.read() + b"torn")
    monkeypatch.setattr("imarium.registers.eventlog.verify", slow)
    with pytest.raises(LogBusy):
        log.verify()


def test_without_room_for_the_log_nothing_is_extended(log, provider, monkeypatch):
    log.append(b"a")
    before, value, write = log.read(), provider.read(RTMR), os.pwrite

    def full(descriptor, data, offset):
        if offset == len(before):
            write(descriptor, bytes(data)[:3], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MissingComponent, match="No space"):
        log.append(b"b")
    assert (log.read(), provider.read(RTMR)) == (before, value)


def test_the_log_is_on_stable_storage_before_the_first_extend(log, provider, monkeypatch):
    log.append(b"a")
    order: list[tuple[str, int]] = []
    sync, extend = os.fdatasync, provider.extend

    def noted_sync(descriptor):
        order.append(("sync", os.fstat(descriptor).st_size))
        sync(descriptor)

    def noted_extend(register, digest):
        order.append(("extend", log.path.stat().st_size))
        return extend(register, digest)

    monkeypatch.setattr(os, "fdatasync", noted_sync)
    monkeypatch.setattr(provider, "extend", noted_extend)
    size = log.settled_size() + len(b"\nb\nc\n")
    log.append(b"b\nc")
    assert order == [("sync", size), ("extend", size), ("extend", size), ("sync", 512)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_lines_that_could_not_be_extended_leave_the_log(log, provider, monkeypatch, failing):
    log.append(b"first")
    extend, calls = provider.extend, iter(range(9))

    def busy(register, digest):
        if next(calls) == failing:
            raise RegisterBusy("busy")
        return extend(register, digest)

    monkeypatch.setattr(provider, "extend", busy)
    with pytest.raises(RegisterBusy):
        log.append(b"a\n# one\nb\n# two\nc\n# three")
    assert log.verify().in_step
    assert [name in log.read().split(b"\n") for name in (b"a", b"b", b"c")] == [n < failing for n in range(3)]
    assert not log.append(b"next").synced
    assert log.verify().in_step


def test_an_extend_that_failed_leaves_no_note(log, provider, monkeypatch):
    log.append(b"first")
    before = log.read()

    def busy(*_):
        raise RegisterBusy("busy")

    with monkeypatch.context() as patch:
        patch.setattr(provider, "extend", busy)
        with pytest.raises(RegisterBusy):
            log.extend(b"\7" * 32)
    assert log.read() == before
    assert log.verify().in_step


def test_someone_elses_extend_in_the_middle_of_an_append_is_told_and_healed(log, provider, monkeypatch):
    log.append(b"first")
    extend, calls = provider.extend, iter(range(9))

    def shared(register, digest):
        if next(calls) == 1:
            extend(register, b"\x55" * 32)
        return extend(register, digest)

    with monkeypatch.context() as patch:
        patch.setattr(provider, "extend", shared)
        with pytest.raises(ForeignExtend):
            log.append(b"a\nb\nc")
    assert not log.verify().in_step
    assert log.append(b"next").synced
    assert log.verify(start=last_sync(log)).in_step


def test_a_log_that_is_not_there_is_held_against_the_value_that_is_given(log, provider, monkeypatch):
    monkeypatch.setattr(provider, "read", None)
    for value in (b"", bytes(32)):
        assert not log.verify(value).in_step


def test_a_register_for_events_only_takes_no_digest(tmp_path):
    events_only = Register("events", 32, SHA256, Access.RTMR)
    provider = MemoryRegisters([events_only])
    log = EventLog(provider, events_only, tmp_path)
    with pytest.raises(RegisterReadOnly):
        log.extend(bytes(32))
    assert provider.read(events_only) == bytes(32)
    assert log.append(b"a").events == 2


def test_a_failing_disk_is_told_as_our_own_error(log, monkeypatch):
    log.append(b"a")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(MissingComponent, match="Input/output"):
        log.verify()


def test_a_log_that_cannot_be_looked_at_is_not_taken_for_none(provider, tmp_path):
    log = EventLog(provider, RTMR, tmp_path / ("a" * 300))
    for look in (log.size, log.settled_size, log.read, log.verify):
        with pytest.raises(MissingComponent, match="File name too long"):
            look()


@pytest.mark.parametrize("damage", [None, b"", b"null", b"\xff", b'{"size": 1}', b"[" * 5000])
def test_a_lost_mark_is_made_again_by_replay(log, damage):
    log.append(b"a")
    log.append(b"b")
    mark = log.path.with_suffix(".mark")
    if damage is None:
        mark.unlink()
    else:
        mark.write_bytes(damage)
    assert not log.append(b"c").synced
    assert log.verify().in_step


def test_a_lost_mark_after_an_extend_leaves_the_log_out_of_step(log):
    log.append(b"a")
    log.extend(bytes(32))
    log.path.with_suffix(".mark").unlink()
    assert log.append(b"b").synced


@pytest.mark.parametrize("whole", [b"", b"\nwhole\n"])
def test_what_a_machine_that_died_left_behind_the_last_line_is_cut(log, whole):
    """Some file systems leave zeros where data never came: more than a page of them is no line."""
    log.append(b"first")
    settled = log.read()
    with log.path.open("ab") as file:
        file.write(whole + bytes(PAGE + 1))
    assert log.settled_size() == len(settled)
    assert log.append(b"second").lines == 1
    assert log.read() == settled + b"\nsecond\n"
    assert log.verify().in_step


def test_zeros_alone_without_a_mark_are_no_event_log_and_stay(log):
    log.append(b"first")
    log.path.with_suffix(".mark").unlink()
    log.path.write_bytes(bytes(PAGE + 1))
    with pytest.raises(MalformedInput, match=re.escape(str(log.path))):
        log.append(b"second")
    assert log.path.read_bytes() == bytes(PAGE + 1)


def test_a_changed_mark_is_no_mark(log):
    log.append(b"a")
    mark = log.path.with_suffix(".mark")
    document = json.loads(mark.read_text())
    mark.write_text(json.dumps(document | {"value": "00" * 32}))
    assert not log.append(b"b").synced
    assert log.verify().in_step


def test_a_log_that_was_cut_is_out_of_step(log):
    log.append(b"a")
    log.append(b"b")
    os.truncate(log.path, log.path.stat().st_size - 3)
    assert not log.verify().in_step
    assert log.append(b"c").synced
    assert log.verify(start=last_sync(log)).in_step


def test_files_are_the_owners_alone(log):
    log.append(b"a")
    assert {path.stat().st_mode & 0o777 for path in log.path.parent.iterdir()} == {0o600}
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("user", "state", "home", "place"),
    [
        (0, "/x", "/home/a", "/var/lib"),
        (1000, "/x", "/home/a", "/x"),
        (1000, "x", "/home/a", "/home/a/.local/state"),
        (1000, "", "/home/a", "/home/a/.local/state"),
    ],
)
def test_logs_are_kept_with_the_state_of_the_machine_or_the_user(provider, monkeypatch, user, state, home, place):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", home)
    assert default_directory(provider) == Path(place) / "imarium" / "registers" / "memory"


def test_a_user_without_a_home_is_told_to_name_a_directory(provider, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(MissingComponent, match="--log"):
        default_directory(provider)
