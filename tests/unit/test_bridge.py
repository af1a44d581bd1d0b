"""The bridge: each record of a list goes into the register once, whatever happens to the process."""

import os
import tracemalloc
from functools import partial
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.bridge_world import BOOT, INITIAL, LAYOUT, Killed, World, expected, files, frames_of
from tests.unit.builders import binary, hashed, made_layouts, made_records, ng

from imarium.errors import MalformedInput, MalformedRecord
from imarium.formats.records import ListLayout
from imarium.hashes import SHA256, by_name
from imarium.registers import (
    Access,
    MemoryRegisters,
    Register,
    RegisterBusy,
    RegisterReadOnly,
    find_register,
)
from imarium.rot import bridge as module
from imarium.rot.bridge import Bridge, OutOfStep, PositionLost
from imarium.rot.bridge_chain import Listing, cover, record_digests
from imarium.rot.bridge_state import TAIL, BridgeBusy, BridgeState, StateFile


@pytest.fixture
def world():
    return World()


@given(
    st.data(),
    made_records(max_size=30),
    st.lists(st.integers(0, 25), max_size=12),
    st.sampled_from([1, 3, 64]),
)
def test_kills_at_any_step_neither_skip_nor_repeat_a_record(data, records, kills, note_every):
    world = World()
    every = [BOOT, *records]
    with mock.patch.object(module, "NOTE_EVERY", note_every):
        for kill in kills:
            grown = data.draw(st.integers(len(world.records), len(every)))
            world.records = every[:grown]
            world.device.countdown = kill
            bridge = world.bridge()
            try:
                bridge.advance(world.listing())
                bridge.advance(world.listing())
            except Killed:
                pass
            world.device.countdown = None
            begun = world.notes.kept
            assert begun is None or begun.initial == INITIAL
        world.records = every
        done = world.run()
    assert world.value == expected(every) == done.state.value
    assert world.notes.kept == done.state
    assert (done.state.records, done.pending, done.state.initial) == (len(every), 0, INITIAL)
    assert world.run().extended == 0


@given(made_layouts(), st.data(), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_a_list_covers_what_its_records_lead_to(layout, data, bank):
    column, order, padded = layout
    records = data.draw(made_records(order))
    blocks = [binary(records, column, order, padded)]
    form = ListLayout(by_name(column), order, padded)
    frames = frames_of(blocks, form)
    size = by_name(bank).size
    value = bytes(size)
    history = [value]
    for record in records:
        digest = b"\xff" * size if record.violation else record.true_digest(bank, order)
        value = hashed(bank, value + digest)
        history.append(value)
    wanted = data.draw(st.integers(0, len(records)))
    found = cover([frames], form, by_name(bank), bytes(size), history[wanted])
    assert (found.records, found.covered, found.unverified) == (len(records), wanted, len(records) - wanted)
    assert found.violations == sum(record.violation for record in records)
    assert found.bad_digests == ()
    assert cover([frames], form, by_name(bank), bytes(size), b"\x01" * size).covered is None


def test_a_forged_template_digest_extends_what_the_data_gives():
    forged = ng(b"/bin/x")
    lied = type(forged)(forged.template, forged.fields, forged=b"\x01" * 20)
    frames = frames_of([binary([lied])], LAYOUT)
    assert record_digests(frames, SHA256) == [forged.true_digest("sha256", "little")]
    assert cover([frames], LAYOUT, SHA256, bytes(32), expected([forged], bytes(32), "sha256")).bad_digests == (0,)


def test_a_follower_extends_only_what_is_new(world):
    bridge = world.bridge()
    world.records = [BOOT, *files(3)]
    assert (first := bridge.advance(world.listing())).begun
    world.records += files(5, 3)
    second = bridge.advance(world.listing())
    assert (first.extended, second.extended, second.begun) == (4, 5, False)
    assert world.value == expected(world.records)


def test_it_stops_when_told_and_says_what_is_pending(world):
    world.records = [BOOT, *files(9)]
    answers = iter([False, False, False, True])
    done = world.bridge().advance(world.listing(), lambda: next(answers))
    assert (done.extended, done.pending) == (3, 7)
    assert world.value == expected(world.records[:3])


def test_a_record_that_is_still_being_written_is_left():
    data = binary([BOOT, *files(2)])
    assert len(frames_of([data[:-1]], LAYOUT)) == 2
    with pytest.raises(MalformedRecord):
        frames_of([data, b"\xff" * 40], LAYOUT)


def test_records_before_a_broken_one_are_extended_once(world):
    world.records = [BOOT, *files(3)]
    broken = Listing(LAYOUT, lambda: [binary(world.records) + b"\xff" * 40])
    for _ in range(2):
        with pytest.raises(MalformedRecord, match="record 4"):
            world.bridge().advance(broken)
        assert world.value == expected(world.records)
    world.records += files(2, 3)
    done = world.run()
    assert (done.extended, done.state.records) == (2, 6)
    assert world.value == expected(world.records)


def test_a_list_is_never_in_memory_as_records(world):
    """What a pass holds beside the list's bytes does not grow with it."""
    data = binary([BOOT, *(ng(b"/usr/bin/program-%d" % number) for number in range(20_000))])
    bridge = world.bridge()
    peaks = []
    for size in (len(data) // 20, len(data)):
        tracemalloc.start()
        bridge.advance(Listing(LAYOUT, partial(lambda end: [data[:end]], size)))
        peaks.append(tracemalloc.get_traced_memory()[1] - size)
        tracemalloc.stop()
    assert world.device.extends == 20_001
    assert max(peaks) < 3 << 20, peaks


@pytest.mark.parametrize("when", ["noted", "between runs", "while running"])
def test_an_extend_by_someone_else_ends_it_for_good(world, when):
    world.records = [BOOT, *files(3)]
    bridge = world.bridge()
    bridge.advance(world.listing())
    if when != "noted":
        world.records += files(1, 3)
    if when == "while running":
        read = world.device.read
        with mock.patch.object(world.device, "read", side_effect=[world.value, bytes(48)]), pytest.raises(OutOfStep):
            bridge.advance(world.listing())
        assert world.device.read == read
    world.foreign()
    before = world.value
    for _ in range(2):
        with pytest.raises(OutOfStep, match="rtmr1:sha384 was extended by someone else after record 4"):
            world.run()
    assert world.value == before
    done = world.run(anew=True)
    assert (done.begun, done.state.initial) == (True, before)
    assert world.value == expected(world.records, before)
    assert world.run().extended == 0


def test_a_provider_that_answers_with_another_value_ends_it(world):
    world.records = [BOOT, *files(3)]

    def both(register, digest):
        MemoryRegisters.extend(world.device, register, digest)
        return MemoryRegisters.extend(world.device, register, digest)

    with mock.patch.object(world.device, "extend", side_effect=both), pytest.raises(OutOfStep):
        world.run()
    assert world.notes.kept.records == 0
    with pytest.raises(OutOfStep):
        world.run()


def test_a_busy_device_is_gone_on_with(world):
    world.records = [BOOT, *files(5)]
    bridge = world.bridge()
    real = world.device.extend
    calls = iter(range(100))

    def busy(register, digest):
        if next(calls) == 3:
            raise RegisterBusy("busy")
        return real(register, digest)

    with mock.patch.object(world.device, "extend", side_effect=busy):
        with pytest.raises(RegisterBusy):
            bridge.advance(world.listing())
        done = bridge.advance(world.listing())
    assert (done.found, done.extended) == (3, 3)
    assert world.value == expected(world.records)


class TestDrained:
    def test_the_last_records_show_the_place(self, world):
        world.records = [BOOT, *files(40)]
        world.run()
        world.records += files(7, 40)
        done = world.run(drained=41 - TAIL)
        assert (done.extended, done.state.records) == (7, 48)
        assert world.value == expected(world.records)

    def test_records_extended_but_not_noted_are_found(self, world):
        world.records = [BOOT, *files(40)]
        world.run()
        world.records += files(7, 40)
        world.device.countdown = 8
        with pytest.raises(Killed):
            world.run()
        done = world.run(drained=20)
        assert (done.found, done.extended) == (4, 3)
        assert world.value == expected(world.records)

    @pytest.mark.parametrize("drained", [42 - TAIL, 41, 43])
    def test_where_they_are_gone_nothing_is_extended(self, world, drained):
        world.records = [BOOT, *files(40)]
        world.run()
        before = world.value
        world.records += files(7, 40)
        with pytest.raises(PositionLost, match="--store"):
            world.run(drained=drained)
        assert world.value == before

    def test_a_place_that_could_be_two_is_none(self, world):
        world.records = [BOOT] + [ng(b"/bin/again", violation=True)] * 30
        world.run()
        with pytest.raises(PositionLost):
            world.run(drained=5)
        assert world.run().extended == 0, "the whole list is never ambiguous"

    def test_a_drained_list_is_not_begun_with(self, world):
        world.records = [BOOT, *files(5)]
        with pytest.raises(PositionLost, match="boot aggregate"):
            world.run(drained=1)
        assert (world.notes.kept, world.value) == (None, INITIAL)
        world.records, every = [], world.records
        assert world.run().begun
        world.records = every
        with pytest.raises(PositionLost, match="boot aggregate"):
            world.run(drained=1)
        done = world.bridge().advance(world.listing(1, whole=True))
        assert done.extended == 5, "custody can know a log that begins with any record"


class TestBoots:
    def test_a_reset_register_and_a_new_list_begin_anew(self, world):
        world.records = [BOOT, *files(5)]
        world.run()
        world.device._values[world.device.register] = INITIAL
        world.records = [BOOT, *files(3, 10)]
        with pytest.raises(PositionLost):
            world.run(boot="one")
        done = world.run(boot="two")
        assert (done.begun, done.extended) == (True, 4)
        assert world.value == expected(world.records)
        assert world.notes.kept.boot_id == "two"

    def test_a_kexec_goes_on(self, world):
        world.records = [BOOT, *files(5)]
        world.run()
        world.records += [BOOT, *files(2, 5)]
        done = world.run(boot="two")
        assert (done.begun, done.extended, done.state.records) == (False, 3, 9)
        assert world.notes.kept.boot_id == "two"

    def test_another_value_after_a_boot_is_refused(self, world):
        world.records = [BOOT, *files(5)]
        world.run()
        world.device._values[world.device.register] = bytes(48)
        with pytest.raises(OutOfStep, match="or was reset"):
            world.run(boot="two")


def test_only_a_register_that_can_be_extended_is_taken(world):
    with pytest.raises(RegisterReadOnly):
        Bridge(world.device, find_register(world.device, "mrtd"), world.notes, boot_id="one")
    plain = Register("config", 48, None, Access.R | Access.W)
    with pytest.raises(RegisterReadOnly):
        Bridge(world.device, plain, world.notes, boot_id="one")


class TestStateFile:
    @pytest.fixture
    def place(self, tmp_path, world):
        return StateFile(tmp_path / "state", world.device, world.device.register)

    def test_what_is_saved_is_loaded(self, place):
        assert place.load() is None
        with place.lock():
            for records in (0, 3, 40):
                frames = frames_of([binary(files(records))], LAYOUT)
                state = BridgeState("boot", INITIAL, 0, INITIAL).after(frames, b"\x02" * 48)
                place.save(state)
                assert place.load() == state
        assert sorted(path.name for path in place.path.parent.iterdir()) == [
            ".memory.rtmr1:sha384.bridge.lock",
            "memory.rtmr1:sha384.bridge",
        ]

    def test_one_flipped_byte_anywhere_is_noticed(self, place):
        with place.lock():
            place.save(BridgeState("boot", INITIAL, 0, INITIAL).after(frames_of([binary(files(2))], LAYOUT), INITIAL))
        good, state = place.path.read_bytes(), place.load()
        for at in range(len(good)):
            place.path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            try:
                assert place.load() == state, "only white space may differ"
            except MalformedInput as error:
                assert "--begin" in str(error)

    @pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 60000, b"{}" + b" " * 70000, b"\xff"])
    def test_other_content_is_malformed(self, place, data):
        place.path.parent.mkdir()
        place.path.write_bytes(data)
        with pytest.raises(MalformedInput):
            place.load()

    def test_there_is_one_bridge_of_a_register(self, place):
        with place.lock(), pytest.raises(BridgeBusy), place.lock():
            pass
        with place.lock():
            pass

    def test_saving_opens_no_file_for_reading(self, place):
        """Or IMA would measure it, and each note would make a record to extend."""
        opened = []
        real = os.open

        def noting(path, flags, *more, **options):
            opened.append((str(path), flags))
            return real(path, flags, *more, **options)

        with mock.patch("os.open", noting), place.lock():
            place.save(BridgeState("boot", INITIAL, 0, INITIAL))
        assert opened
        regular = [flags for _, flags in opened if not flags & os.O_DIRECTORY]
        assert regular
        assert all(flags & os.O_ACCMODE == os.O_WRONLY for flags in regular)
