"""Event logs: what a crash at any point leaves."""

import contextlib
import os

import pytest
from tests.unit.register_logs import RTMR, last_sync

from imarium.registers import (
    EventLog,
    FileRegisters,
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Processes die here, not machines: what was written is there without a sync."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _descriptor: None)


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
