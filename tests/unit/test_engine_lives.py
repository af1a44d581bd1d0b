"""An engine's lives: lists handed over by suspending and restoring, and registers that lag behind or were reset."""

import contextlib
import itertools
import logging
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine_builders import EVERYTHING, listed, measurement, names, reached
from tests.unit.faulty_root import FaultyRoot

from imarium.engine import (
    Engine,
    Measurement,
    MeasurementQueue,
    find_template,
)
from imarium.engine.kexec import MOST_TEMPLATES, kexec_buffer, kexec_event, records_in_buffer, segment_size
from imarium.engine.life import Handover, Life, read_life, write_life
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats import BUILTIN_TEMPLATES, IMA_PCR
from imarium.registers import RegisterBusy

ENDLESS = b'{"type": "imarium-engine-life", "version": 1, "handover": {"digest": "", "end": 1e999, "waiting": {}}}'


@pytest.mark.parametrize("seed", range(3))
def test_ten_lives_with_staging_and_deletion_replay_to_the_register_each_time(tmp_path, seed):
    rng = random.Random(seed)  # noqa: S311 - the same commands each time
    root, deleted, buffer = FaultyRoot(), b"", None
    for life in range(11):
        with Engine(tmp_path / "e", roots=[root], policy=EVERYTHING, restore=buffer) as engine:
            for step in range(rng.randrange(30)):
                match rng.randrange(5):
                    case 0 if not engine.queue.staged and engine.queue.current:
                        engine.queue.stage_all()
                    case 1 if engine.queue.staged:
                        deleted += listed(engine.queue.staged)
                        engine.queue.delete_staged()
                    case 2 if not engine.queue.staged and engine.queue.current:
                        count = rng.randrange(len(engine.queue.current)) + 1
                        first = engine.queue.current.first
                        deleted += listed([engine.queue.current[n] for n in range(first, first + count)])
                        engine.queue.delete(count)
                    case _:
                        engine.measure_critical_data(b"l", b"n%d-%d" % (life, step), b"d")
            assert reached(deleted + listed(engine.queue.staged, engine.queue.current)) == root.value
            buffer = tmp_path / f"buffer{life}"
            engine.suspend_to(buffer)
            assert reached(deleted + listed(engine.queue.staged, engine.queue.current)) == root.value
            assert engine.status().registers[0].records == root.updates


def test_a_register_that_lags_is_brought_up_by_the_next_engine(tmp_path):
    root, buffer = FaultyRoot(), tmp_path / "buffer"
    with Engine(tmp_path / "e", roots=[root], policy=EVERYTHING) as engine:
        root.before = True
        engine.suspend_to(buffer)
    with Engine(tmp_path / "e", roots=[root], policy=EVERYTHING, restore=buffer) as engine:
        assert engine.status().registers[0].waiting == len(engine.queue.current) - 3
        root.before = False
        engine.queue.stage_all()
        assert root.value == reached(listed(engine.queue.staged))


def test_of_two_roots_of_one_driver_the_one_that_lags_is_brought_up(tmp_path):
    good, bad, buffer = FaultyRoot("good"), FaultyRoot("bad"), tmp_path / "buffer"
    with Engine(tmp_path / "e", roots=[good, bad], policy=EVERYTHING) as engine:
        bad.before = True
        engine.suspend_to(buffer)
    with Engine(tmp_path / "e", roots=[good, bad], policy=EVERYTHING, restore=buffer) as engine:
        assert [each.waiting > 0 for each in engine.status().registers] == [False, True]
        bad.before = False
        engine.queue.stage_all()
        assert good.value == bad.value == reached(listed(engine.queue.staged))


def test_registers_that_were_reset_in_between_are_found_out_of_step(tmp_path, caplog):
    buffer = tmp_path / "buffer"
    with Engine(tmp_path / "e", roots=[FaultyRoot()], policy=EVERYTHING) as engine:
        engine.suspend_to(buffer)
    with Engine(tmp_path / "e", roots=[FaultyRoot()], policy=EVERYTHING, restore=buffer) as engine:
        (register,) = engine.status().registers
    assert register.waiting == 3
    assert register.error is not None
    assert register.error.name == "faulty_error(out_of_step)"
    assert "op=add_template_measure cause=faulty_error(out_of_step)" in caplog.text


def test_restored_records_come_first_and_may_come_again(tmp_path):
    buffer = tmp_path / "buffer"
    with Engine(tmp_path / "e", policy=EVERYTHING) as engine:
        engine.measure_critical_data(b"label", b"name", b"data")
        engine.suspend_to(buffer)
    with Engine(tmp_path / "e", policy=EVERYTHING, restore=buffer) as engine:
        assert engine.measure_critical_data(b"label", b"name", b"data")
        first = [b"boot_aggregate", b"kernel_version", b"name"]
        assert names(engine) == [*first, b"kexec_load", b"kexec_execute", *first]


def test_a_file_that_was_gone_on_from_is_refused(tmp_path):
    buffer = tmp_path / "buffer"
    with Engine(tmp_path / "e") as engine:
        engine.suspend_to(buffer)
    for life in range(2):
        following = tmp_path / f"following{life}"
        with Engine(tmp_path / "e", restore=buffer) as engine:
            engine.suspend_to(following)
        with pytest.raises(RefusedOperation, match="gone on from this file"), Engine(tmp_path / "e", restore=buffer):
            pass
        buffer = following


def test_a_root_that_cannot_tell_what_booted_leaves_the_file_to_go_on_from(tmp_path, monkeypatch):
    root, buffer = FaultyRoot(), tmp_path / "buffer"
    with Engine(tmp_path / "e", roots=[root]) as engine:
        engine.suspend_to(buffer)
    value = root.value

    def busy(_bank):
        raise RegisterBusy("busy; try again")

    with monkeypatch.context() as patched:
        patched.setattr(root, "boot_aggregate", busy)
        with pytest.raises(RegisterBusy), Engine(tmp_path / "e", roots=[root], restore=buffer):
            pass
    assert root.value == value
    with Engine(tmp_path / "e", roots=[root], restore=buffer) as engine:
        assert names(engine) == [b"boot_aggregate", b"boot_aggregate"]
        assert reached(listed(engine.queue.current)) == root.value


def test_a_foreign_file_begins_a_life_of_its_own_and_is_said_to_be_unchecked(tmp_path, caplog):
    buffer = tmp_path / "buffer"
    with Engine(tmp_path / "there") as engine:
        engine.suspend_to(buffer)
    with Engine(tmp_path / "here", restore=buffer) as engine:
        assert engine.queue.counts.full == 2
    assert "not left by the last engine here" in caplog.text


def test_a_suspended_engines_file_that_is_not_gone_on_from_is_missed(tmp_path, caplog):
    with Engine(tmp_path / "e") as engine:
        engine.suspend_to(tmp_path / "buffer")
    caplog.set_level(logging.WARNING)
    with Engine(tmp_path / "e"):
        pass
    assert "none has gone on from its file" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "count", "digest", "order", "text"])
def test_a_damaged_buffer_is_refused(tmp_path, damage):
    buffer = tmp_path / "buffer"
    with Engine(tmp_path / "e") as engine:
        engine.suspend_to(buffer)
    data = bytearray(buffer.read_bytes())
    match damage:
        case "cut":
            del data[-1]
        case "count":
            data[16] += 1
        case "digest":
            data[-1] ^= 1
        case "order":
            data[0:2] = b"\0\1"
        case "text":
            data = bytearray(b"not a buffer")
    buffer.write_bytes(data)
    with pytest.raises(MalformedInput), Engine(tmp_path / "other", restore=buffer):
        pass
    with Engine(tmp_path / "other"):  # it let go of its directory
        pass


def test_the_words_of_a_kexec_are_those_of_a_kernel():
    """Linux 7.3.4 with a list of 30 records in 3695 bytes wrote this text at kexec load."""
    queue = MeasurementQueue()
    for number in range(29):
        queue.add(measurement(number))
    bare = measurement(29, name="/").runtime_size
    queue.add(measurement(29, name="/" + "x" * (3695 - queue.full_size - bare)))
    assert (queue.counts.full, queue.full_size) == (30, 3695)
    text = b"kexec_segment_size=8192;ima_binary_runtime_size=3719;ima_runtime_measurements_count=30;"
    assert kexec_event(queue, segment_size(queue)) == text


@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_buffer_is_restored_or_refused(tail, cut):
    made = [measurement(number, template_name=name) for number, name in enumerate(BUILTIN_TEMPLATES)]
    queue = MeasurementQueue()
    queue.restore(made)
    queue.suspend()
    blocks = kexec_buffer(queue)
    data = b"".join(blocks)
    assert list(records_in_buffer([data], "little")) == made
    for damaged in (data[: cut * 7] + tail, tail, data[:24] + tail):
        with contextlib.suppress(MalformedInput):
            list(records_in_buffer([damaged], "little"))


def test_where_no_file_can_be_suspended_to_is_refused_and_measuring_goes_on(tmp_path):
    with Engine(tmp_path / "e", policy=EVERYTHING) as engine:
        for path in (tmp_path, Path("/"), Path()):
            with pytest.raises(UsageError, match="name a file"):
                engine.suspend_to(path)
        (tmp_path / "file").touch()
        for path in (tmp_path / "nowhere" / "file", tmp_path / "file" / "file", Path("/proc/file")):
            with pytest.raises(MissingComponent):
                engine.suspend_to(path)
        assert engine.measure_critical_data(b"label", b"name", b"data")


@contextlib.contextmanager
def files_of_at_most(size):
    """Writing fails behind that many bytes, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_halfway_leaves_measuring_suspended_until_there_is_another_file(tmp_path):
    with Engine(tmp_path / "e", policy=EVERYTHING) as engine:
        engine.measure_critical_data(b"label", b"name", bytes(1 << 20))
        with files_of_at_most(1 << 16), pytest.raises(MissingComponent, match="too large"):
            engine.suspend_to(tmp_path / "buffer")
        assert engine.status().suspended
        assert engine.suspend_to(tmp_path / "buffer") == 5
    with Engine(tmp_path / "e", restore=tmp_path / "buffer") as engine:
        assert len(engine.queue.current) == 6


def test_a_buffer_of_more_templates_than_a_kernel_has_is_refused():
    """Names of templates are lists of fields, so that there is no end of them."""
    fields = ("sig", "buf", "modsig", "evmsig")
    names = ["|".join(chosen) for chosen in itertools.product(fields, repeat=6)]
    made = [Measurement(IMA_PCR, find_template(name), bytes(4 * 6)) for name in names]
    queue = MeasurementQueue()
    queue.restore(made[:MOST_TEMPLATES])
    assert len(list(records_in_buffer(kexec_buffer(queue), "little"))) == MOST_TEMPLATES
    queue.add(made[MOST_TEMPLATES])
    with pytest.raises(MalformedInput, match="templates"):
        list(records_in_buffer(kexec_buffer(queue), "little"))


def test_one_engine_per_directory(tmp_path):
    with Engine(tmp_path), pytest.raises(MissingComponent, match="an engine is running here"), Engine(tmp_path):
        pass


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"handover": 3}', b"\xff", b"[" * 100000, ENDLESS])
def test_a_damaged_life_is_an_error_of_its_own(tmp_path, data):
    (tmp_path / "life.json").write_bytes(data)
    with pytest.raises(MalformedInput):
        read_life(tmp_path)


def test_a_life_is_read_back_as_written(tmp_path):
    life = Life("name", Handover("digest", 5, {"tpm.10": 2}), ("a", "b"))
    write_life(tmp_path, life)
    assert read_life(tmp_path) == life
    assert life.going_on() == Life("name", None, ("a", "b", "digest"))
