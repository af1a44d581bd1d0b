"""Event logs under many processes, and under writers that are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from imarium.hashes import SHA384
from imarium.registers import Access, EventLog, FileRegisters, Register, Verification
from imarium.registers.text import Kind, Line, read_lines

RTMR = Register("rtmr", 48, SHA384, Access.RTMR | Access.W)
WRITER = """
import sys
from pathlib import Path
from imarium.registers import EventLog, FileRegisters, find_register
registers = FileRegisters(Path(sys.argv[1]))
log = EventLog(registers, find_register(registers, "rtmr"), Path(sys.argv[2]), patience=60)
me = sys.argv[3]
for turn in range(int(sys.argv[4])):
    if turn % 5 == 4:
        log.extend(bytes([int(me)]) * 48)
    else:
        log.append(f"{me}/{turn} first\\n# {me}/{turn}\\n{me}/{turn} second\\n".encode())
"""
KILLS = 200


def lines(log: EventLog) -> list[Line]:
    return list(read_lines([log.read()], SHA384))


def from_last_sync(log: EventLog) -> Verification:
    return log.verify(start=[line.number for line in lines(log) if line.kind is Kind.SYNC][-1])


def test_eight_processes_that_append_and_extend_at_once_leave_a_log_that_verifies(tmp_path: Path) -> None:
    registers, turns = FileRegisters.create(tmp_path / "r", [RTMR]), 10
    command = [sys.executable, "-c", WRITER, str(tmp_path / "r"), str(tmp_path / "logs")]
    writers = [subprocess.Popen([*command, str(me), str(turns)]) for me in range(8)]
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 8
    log = EventLog(registers, RTMR, tmp_path / "logs")
    log.append(b"last")
    done = log.verify()
    assert done.in_step
    assert done.unverified == 0
    found = lines(log)
    assert sum(line.kind is Kind.EXTENDED for line in found) == 8 * turns // 5
    for me in range(8):
        mine = [line.text for line in found if line.text.startswith(b"%d/" % me)]
        wanted = [b"%d/%d %s" % (me, t, p) for t in range(turns) if t % 5 != 4 for p in (b"first", b"second")]
        assert mine == wanted
    for first, note, second in zip(found, found[1:], found[2:], strict=False):
        if first.text.endswith(b"first"):
            assert note.text == b"# " + first.text.removesuffix(b" first")
            assert second.text == first.text.replace(b"first", b"second")


def test_a_writer_killed_200_times_leaves_a_log_that_verifies_or_heals(tmp_path: Path) -> None:
    registers = FileRegisters.create(tmp_path / "r", [RTMR])
    chance = random.Random(6092)  # noqa: S311 - moments, not secrets
    broken = 0
    for turn in range(KILLS):
        log = EventLog(registers, RTMR, tmp_path / f"logs-{turn // 20}")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(log, writer, turn)
            finally:
                os._exit(1)
        os.close(writer)
        assert os.read(reader, 1)
        time.sleep(chance.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with os.fdopen(reader, "rb") as pipe:
            acknowledged = pipe.read().splitlines()
        broken += settle_and_check(log, turn, acknowledged)
    assert broken > KILLS // 20, "hardly any kill came in the middle of a step"


def write_until_killed(log: EventLog, acknowledge: int, turn: int) -> None:
    os.write(acknowledge, b"\n")
    for number in range(1 << 30):
        text = b"%d/%d" % (turn, number)
        if number % 4 == 3:
            log.extend(SHA384.digest(text))
        else:
            log.append(text + b" first\n# note\n" + text + b" second")
            os.write(acknowledge, text + b"\n")


def settle_and_check(log: EventLog, turn: int, acknowledged: list[bytes]) -> bool:
    """Whether the kill came in the middle of a step. The log verifies, or is out of step and heals."""
    before = log.path.stat().st_size if log.path.exists() else 0
    seen = log.verify()
    settled = log.settled_size()
    after = log.verify()
    texts = {line.text for line in lines(log)}
    for text in filter(None, acknowledged):
        assert {text + b" first", text + b" second"} <= texts, turn
    if seen.in_step:
        assert after.in_step, turn
    assert log.append(b"# after %d" % turn).synced == (not after.in_step), turn
    assert from_last_sync(log).in_step, turn
    assert log.verify().in_step, turn
    return settled != before or seen != after
