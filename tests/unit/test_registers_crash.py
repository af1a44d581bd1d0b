"""Event logs after a crash at any point: a lost or changed mark, a log that was cut, a step half done."""

import contextlib
import json
import os

import pytest
from tests.unit.register_logs import RTMR, STATIC, last_sync

from imarium.registers import (
    EventLog,
    FileRegisters,
    MemoryRegisters,
)
from imarium.registers.text import PAGE


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


CALLS = ("pwrite", "fdatasync", "ftruncate", "fsync")


def dying_at(moment: int, registers: FileRegisters, log: EventLog, act) -> bool:
    """Act in a child that dies without any clean-up at one of its moments; whether it lived to the end.

    Moments are before and after each system call that writes or syncs the log or the mark, in the middle of each
    write, and before and after each extend.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            countdown = [moment]

            def tick() -> None:
                if countdown[0] == 0:
                    os._exit(9)
                countdown[0] -= 1

            def mortal(function, *, halfway=False):
                def call(*arguments):
                    tick()
                    if halfway and countdown[0] == 0:
                        descriptor, data, offset = arguments
                        function(descriptor, bytes(data)[: len(data) // 2], offset)
                    if halfway:
                        tick()
                    result = function(*arguments)
                    tick()
                    return result

                return call

            for name in CALLS:
                setattr(os, name, mortal(getattr(os, name), halfway=name == "pwrite"))
            registers.extend = mortal(registers.extend)  # type: ignore[method-assign]
            act(log)
            os._exit(0)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the child failed"
    return status == 0


@pytest.mark.parametrize("state", ["new", "in_step", "out_of_step", "torn"])
@pytest.mark.parametrize("what", ["append", "extend"])
def test_a_crash_at_any_moment_leaves_a_log_that_replays_or_heals(tmp_path, state, what):
    act = (lambda log: log.append(b"a\n# c\nb\n# d")) if what == "append" else (lambda log: log.extend(b"\7" * 32))
    moment, lived = 0, False
    while not lived:
        place = tmp_path / str(moment)
        registers = FileRegisters.create(place / "r", [RTMR])
        log = EventLog(registers, RTMR, place)
        if state != "new":
            log.append(b"acknowledged")
        if state == "out_of_step":
            log.extend(b"\3" * 32)
        if state == "torn":
            with log.path.open("ab") as file:
                file.write(b"\nevent that was never exten")
        settled = log.read() if state != "torn" else log.read().partition(b"\n\nevent that")[0]
        was_in_step = state in ("in_step", "torn")
        lived = dying_at(moment, registers, log, act)
        after = EventLog(registers, RTMR, place)
        size = after.settled_size()
        assert after.read().startswith(settled), moment
        assert len(after.read()) == size, moment
        if what == "append" and was_in_step:
            assert after.verify().in_step, moment
        in_step = after.verify().in_step
        assert after.append(b"next").synced == (not in_step), moment
        assert after.verify(start=last_sync(after)).in_step, moment
        assert after.verify().in_step, moment  # every gap is explained by a noted extend
        moment += 1
    assert moment > 8
