"""Several roots of trust for one list: positions, failures, crashes, and who extends in between."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.faulty_root import FaultyRoot

from imarium.chain import extend
from imarium.errors import UsageError
from imarium.hashes import SHA1, SHA256, SHA384, HashAlgorithm, by_name
from imarium.registers import Access, FileRegisters, MemoryRegisters, Register
from imarium.rot import open_root
from imarium.rot.anchor_state import AnchorState, read_state, write_state
from imarium.rot.anchors import Anchor, Anchors, DigestOf
from imarium.rot.register_root import RegisterRoot
from imarium.rot.software import SoftwareRoot


def digest_of(record: int) -> DigestOf:
    return lambda bank: bank.digest(record.to_bytes(4, "big"))


def chain(count: int, start: bytes = bytes(48)) -> bytes:
    for record in range(count):
        start = extend(SHA384, start, digest_of(record)(SHA384))
    return start


def feed(anchors: Anchors, *records: int) -> None:
    for record in records:
        with anchors.ordered() as extending:
            extending.extend(record, digest_of(record))


def test_each_has_its_position_and_one_failing_does_not_stop_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, faulty = SoftwareRoot(), FaultyRoot()
    anchors = Anchors([Anchor(faulty), Anchor(good, "rtmr1")], tmp_path, life="1")
    feed(anchors, 0, 1)
    faulty.before = True
    feed(anchors, 2, 3)
    lagging, ahead = anchors.status()
    assert (ahead.name, ahead.register, ahead.position, ahead.error) == ("software", "rtmr1", 4, None)
    assert (lagging.position, lagging.initial) == (2, {SHA384: bytes(48)})
    assert lagging.error is not None
    assert (lagging.error.record, lagging.error.name) == (2, "faulty_error(16)")
    assert "busy" in lagging.error.detail
    assert faulty.value == chain(2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "faulty_error(16): rtmr2 lags from record 2 on" in caplog.text
    faulty.before = False
    feed(anchors, 4)
    assert anchors.status()[0].position == 2, "later records wait for the missing ones"
    with anchors.ordered() as extending:
        for record in range(extending.position, 5):
            extending.extend(record, digest_of(record))
    assert [(status.position, status.error) for status in anchors.status()] == [(5, None), (5, None)]
    assert faulty.value == chain(5) == good.read(["rtmr1"])["rtmr1"][SHA384]


def test_an_answer_that_was_lost_is_found_in_the_register(tmp_path: Path) -> None:
    faulty = FaultyRoot()
    anchors = Anchors([Anchor(faulty)], tmp_path, life="1")
    faulty.after = True
    feed(anchors, 0, 0, 1)
    (status,) = anchors.status()
    assert (status.position, status.error, faulty.value) == (2, None, chain(2))


def test_one_that_does_not_open_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    gone = RegisterRoot(FileRegisters(tmp_path / "none"), "rtmr2")
    fixed = SoftwareRoot(None, "mrtd")
    good = SoftwareRoot()
    anchors = Anchors([Anchor(gone), Anchor(fixed), Anchor(good)], tmp_path / "state", life="1")
    feed(anchors, 0)
    names = [status.error.name if status.error else None for status in anchors.status()]
    assert names == ["registers_error(2)", "software_error(refused)", None]
    assert [status.position for status in anchors.status()] == [0, 0, 1]


def test_an_extend_behind_its_back_is_told_from_which_record_on(tmp_path: Path) -> None:
    faulty = FaultyRoot()
    anchors = Anchors([Anchor(faulty)], tmp_path, life="1")
    feed(anchors, 0, 1)
    faulty.extend("rtmr2", {SHA384: bytes(48)})
    left = faulty.value
    feed(anchors, 2, 3)
    (status,) = anchors.status()
    assert status.position == 2
    assert status.error is not None
    assert (status.error.record, status.error.name) == (2, "faulty_error(out_of_step)")
    assert faulty.value == left
    fresh = Anchors([Anchor(faulty)], tmp_path, life="2")
    feed(fresh, 0)
    (status,) = fresh.status()
    assert (status.position, status.error, status.initial) == (1, None, {SHA384: left})
    assert faulty.value == chain(1, left)


def test_the_same_register_twice_is_refused(tmp_path: Path) -> None:
    root = FaultyRoot()
    with pytest.raises(UsageError, match="once"):
        Anchors([Anchor(root), Anchor(root, "rtmr2")], tmp_path, life="1").status()
    assert len(Anchors([Anchor(root), Anchor(root, "rtmr1")], tmp_path, life="1").status()) == 2


def test_a_torn_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert read_state(path) is None
    state = AnchorState("life", 3, {SHA384: bytes(48)}, {SHA384: b"v" * 48}, number=6)
    later = replace(state, pending={SHA384: b"d" * 48}, number=7)
    write_state(path, state)
    write_state(path, later)
    assert read_state(path) == later
    data = bytearray(path.read_bytes())
    data[4096 + 20] ^= 1
    path.write_bytes(data)
    assert read_state(path) == state
    path.write_bytes(data[:100])
    assert read_state(path) is None


def test_threads_number_and_extend_in_one_order(tmp_path: Path) -> None:
    root = open_root(f"software:{tmp_path / 'registers'}")
    order: list[int] = []

    def add(anchors: Anchors, content: int) -> None:
        with anchors.ordered() as extending:
            order.append(content)
            extending.extend(len(order) - 1, digest_of(content))

    def work(first: int) -> None:
        anchors = Anchors([Anchor(open_root(f"software:{tmp_path / 'registers'}"))], tmp_path / "state", life="1")
        for content in range(first, first + 10):
            add(anchors, content)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    value = bytes(48)
    for content in order:
        value = extend(SHA384, value, digest_of(content)(SHA384))
    assert len(order) == 40
    assert root.read(["rtmr2"])["rtmr2"][SHA384] == value


def test_a_bank_that_this_machine_cannot_compute_is_extended_and_not_foretold(tmp_path: Path) -> None:
    """As the kernel does with a TPM's bank whose algorithm it lacks; the other banks tell how far the register came."""
    whirlpool = by_name("wp256")

    class Device(MemoryRegisters):
        def extend(self, register: Register, digest: bytes) -> bytes:
            if register.hash != whirlpool:
                return super().extend(register, digest)
            self._values[register] = made = SHA256.digest(self.read(register) + digest)
            return made

    def padded(bank: HashAlgorithm) -> bytes:
        return SHA1.digest(b"record").ljust(32, b"\0") if bank == whirlpool else SHA256.digest(b"record")

    agile = [Register("r", 32, bank, Access.RTMR | Access.W) for bank in (SHA256, whirlpool)]
    alone = [Register("r", 32, whirlpool, Access.RTMR | Access.W)]
    roots = [RegisterRoot(Device(registers), "r") for registers in (agile, alone)]
    for number, root in enumerate(roots):
        root.provider.__dict__["identity"] = f"device-{number}"
    anchors = Anchors([Anchor(root) for root in roots], tmp_path, life="1")
    for record in range(3):
        with anchors.ordered() as extending:
            extending.extend(record, padded)
    both, neither = anchors.status()
    assert (both.position, both.error, list(both.initial)) == (3, None, [SHA256])
    values, expected = roots[0].read(["r"])["r"], {bank: bytes(32) for bank in (SHA256, whirlpool)}
    for _ in range(3):
        expected = {bank: SHA256.digest(value + padded(bank)) for bank, value in expected.items()}
    assert values == expected
    assert neither.error is not None
    assert (neither.position, neither.error.record) == (0, 0)
    assert "cannot compute wp256" in neither.error.detail
