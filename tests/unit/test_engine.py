"""The engine: what it measures of itself, in which order, what it does when a root of trust fails, and its lives."""

import contextlib
import errno
import itertools
import logging
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine_builders import measurement
from tests.unit.faulty_root import FaultyRoot

from imarium.chain import replay
from imarium.engine import (
    Action,
    Engine,
    EngineOptions,
    Event,
    Hook,
    Measurement,
    MeasurementQueue,
    Policy,
    QueueError,
    builtin_policy,
    find_template,
    list_layout,
)
from imarium.engine.kexec import MOST_TEMPLATES, kexec_buffer, kexec_event, records_in_buffer, segment_size
from imarium.engine.life import Handover, Life, read_life, write_life
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats import BUILTIN_TEMPLATES, IMA_PCR, ListForm, ListKind, PcrIndex, encode_record, read_list
from imarium.hashes import SHA1, SHA256, SHA384
from imarium.registers import RegisterBusy

EVERYTHING = builtin_policy(["tcb", "critical_data"])
ENDLESS = b'{"type": "imarium-engine-life", "version": 1, "handover": {"digest": "", "end": 1e999, "waiting": {}}}'


def names(engine):
    records = [*engine.queue.staged, *engine.queue.current]
    return [measured.record(0, SHA1).name for measured in records]


def listed(*lists):
    return b"".join(encode_record(m.record(0, SHA1)) for records in lists for m in records)


def reached(data, bank=SHA384):
    """What the list's replay leads to: all of it goes to one register, whatever its number."""
    result = replay([data], list_layout(SHA1, "little"), [bank])
    assert not result.bad_digests
    assert set(result.state.values) == {IMA_PCR}
    return result.state.values[IMA_PCR][bank]


def test_the_first_records_are_those_of_a_kernel_and_every_root_has_them(tmp_path):
    roots = [FaultyRoot("one"), FaultyRoot("two")]
    with Engine(tmp_path, roots=roots, policy=EVERYTHING) as engine:
        assert names(engine) == [b"boot_aggregate", b"kernel_version", b"ima_init_tpm_update_counter"]
        assert engine.queue.current[2].data.endswith(b"update_counter=2;")
        assert engine.measure_critical_data(b"label", b"name", b"data")
        assert not engine.measure_critical_data(b"label", b"name", b"data")
        assert [root.value for root in roots] == [reached(listed(engine.queue.current))] * 2
        status = engine.status()
    assert [(each.root, each.records, each.waiting, each.error) for each in status.registers] == [
        ("faulty", 4, 0, None)
    ] * 2
    assert (status.counts.full, status.bypass, status.suspended) == (4, False, False)


def test_a_late_engine_says_so_and_one_without_a_root_bypasses(tmp_path):
    with Engine(tmp_path, options=EngineOptions(late=True, template="ima-sig")) as engine:
        (first,) = engine.queue.current
        record = first.record(0, SHA1)
        assert (record.name, record.template.name) == (b"boot_aggregate_late", "ima-sig")
        assert record.file_digest is not None
        assert record.file_digest.digest == bytes(32)
        assert engine.status().bypass


def test_each_kind_of_critical_data_can_be_turned_off(tmp_path):
    options = EngineOptions(kernel_version=False, update_counter=False, policy_changes=False)
    with Engine(tmp_path, options=options, roots=[FaultyRoot()], policy=EVERYTHING) as engine:
        engine.policy.append(b"measure func=CRITICAL_DATA\n")
        assert names(engine) == [b"boot_aggregate"]


def test_a_change_of_the_policy_is_measured_as_written_and_as_loaded(tmp_path):
    with Engine(tmp_path, policy=EVERYTHING) as engine:
        engine.policy.append(b"measure func=CRITICAL_DATA\n")
        assert names(engine)[-2:] == [b"ima_policy_written", b"ima_policy_loaded"]
        assert engine.queue.current[3].data.endswith(b"measure func=CRITICAL_DATA \n")
        assert not engine.measure_buffer(Hook.POLICY_CHECK, b"x", b"y")


def test_critical_data_follows_label_and_register_of_the_policys_rule(tmp_path):
    with Engine(tmp_path) as engine:
        engine.policy.append(b"measure func=CRITICAL_DATA label=mine pcr=11\n")
        assert not engine.measure_critical_data(b"other", b"name", b"data")
        assert engine.measure_critical_data(b"mine", b"name", b"data")
        assert [m.pcr for m in engine.queue.current][-1] == PcrIndex(11)
        with pytest.raises(UsageError, match="empty"):
            engine.measure_critical_data(b"mine", b"name", b"")


def test_staging_measures_the_counter_and_suspending_both_kexec_events(tmp_path):
    root = FaultyRoot()
    with Engine(tmp_path / "engine", roots=[root], policy=EVERYTHING) as engine:
        engine.queue.stage_all()
        assert names(engine)[-1] == b"stage_tpm_update_counter"
        engine.queue.delete_staged()
        full = engine.queue.full_size
        assert engine.suspend_to(tmp_path / "buffer") == 3
        assert names(engine) == [b"kexec_load", b"kexec_load_tpm_update_counter", b"kexec_execute"]
        text = b"kexec_segment_size=4096;ima_binary_runtime_size=%d;ima_runtime_measurements_count=4;" % (full + 24)
        assert engine.queue.current[4].data.endswith(text)
        with pytest.raises(QueueError) as caught:
            engine.measure_critical_data(b"label", b"name", b"data")
        assert caught.value.number == errno.ENODEV
        with pytest.raises(QueueError) as caught:
            engine.queue.stage_all()
        assert caught.value.number == errno.EACCES
        assert engine.suspend_to(tmp_path / "again") == 3
    assert (tmp_path / "again").read_bytes() == (tmp_path / "buffer").read_bytes()
    form = ListForm(ListKind.KEXEC, list_layout(SHA1, "little"))
    assert len(list(read_list([(tmp_path / "buffer").read_bytes()], form))) == 3


def test_a_record_that_could_not_be_extended_is_listed_audited_and_extended_later(tmp_path, caplog):
    root, other = FaultyRoot(), FaultyRoot("other")
    with Engine(tmp_path, roots=[root, other], policy=EVERYTHING) as engine:
        root.before = True
        for number in range(3):
            assert engine.measure_critical_data(b"label", b"name%d" % number, b"data")
        audited = [r.getMessage() for r in caplog.records if r.name == "imarium.engine.audit"]
        assert audited == ["op=add_template_measure cause=faulty_error(16) record=3 res=0: busy; try again"]
        lagging, fine = engine.status().registers
        assert (lagging.records, lagging.waiting, fine.waiting) == (6, 3, 0)
        assert lagging.error is not None
        assert other.value == reached(listed(engine.queue.current))
        root.before = False
        engine.queue.stage_all()
        assert engine.status().registers[0].waiting == 0
        assert root.value == other.value == reached(listed(engine.queue.staged))


def test_an_extend_whose_answer_was_lost_is_not_made_twice(tmp_path):
    root = FaultyRoot()
    with Engine(tmp_path, roots=[root], policy=EVERYTHING) as engine:
        root.after = True
        engine.measure_critical_data(b"label", b"one", b"data")
        root.after = False
        engine.measure_critical_data(b"label", b"two", b"data")
        engine.queue.stage_all()
        assert root.value == reached(listed(engine.queue.staged))


def test_a_register_whose_record_was_deleted_stays_behind_and_says_so(tmp_path, caplog):
    root = FaultyRoot()
    with Engine(tmp_path, roots=[root], policy=EVERYTHING) as engine:
        root.before = True
        engine.measure_critical_data(b"label", b"one", b"data")
        engine.queue.delete(len(engine.queue.current))
        root.before = False
        engine.measure_critical_data(b"label", b"two", b"data")
        engine.queue.stage_all()
        (status,) = engine.status().registers
    assert status.lost
    assert status.waiting == 3
    assert "waits for record 3, which was deleted" in caplog.text


def test_a_place_for_positions_that_cannot_be_written_is_an_error_of_the_root(tmp_path, monkeypatch):
    root = FaultyRoot()
    with Engine(tmp_path, roots=[root], policy=EVERYTHING) as engine:

        def full(*_):
            raise MissingComponent("no space")

        with monkeypatch.context() as patch:
            patch.setattr("imarium.rot.anchors.write_state", full)
            assert engine.measure_critical_data(b"label", b"one", b"data")
            error = engine.status().registers[0].error
            assert error is not None
            assert error.detail == "no space"
        assert engine.measure_critical_data(b"label", b"two", b"data")
        engine.queue.stage_all()
        assert root.value == reached(listed(engine.queue.staged))


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


def test_an_engine_that_has_not_begun_measures_nothing(tmp_path):
    engine = Engine(tmp_path)
    with pytest.raises(UsageError, match="not begun"):
        engine.status()


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


@pytest.mark.parametrize("name", BUILTIN_TEMPLATES)
@pytest.mark.parametrize("violation", [False, True])
def test_events_become_records_of_every_template(tmp_path, name, violation):
    event = Event(
        b"/a name",
        SHA256,
        SHA256.digest(b"x"),
        SHA1.digest(b"x"),
        signature=b"\x03\x02sig",
        buffer=b"buffer",
        violation=violation,
        more={"iuid": bytes(4), "igid": bytes(4), "imode": b"\xa4\x81"},
    )
    with Engine(tmp_path, options=EngineOptions(template=name)) as engine:
        assert engine.add(event, Action())
        record = engine.queue.current[1].record(1, SHA256)
        assert record.name == b"/a_name"
        assert record.is_violation is violation
        assert record.file_digest is not None
        assert any(record.file_digest.digest) is not violation
        assert len(record.fields) == len(find_template(name).fields)


def test_an_event_that_does_not_fit_its_template_and_an_unknown_template_are_refused(tmp_path):
    with Engine(tmp_path, options=EngineOptions(template="ima")) as engine, pytest.raises(UsageError, match="fit"):
        engine.add(Event(b"/x", SHA256, bytes(32), b"short"), Action())
    with pytest.raises(UsageError, match="unknown template"):
        Engine(tmp_path, options=EngineOptions(template="x"))


def test_no_policy_measures_nothing_but_the_boot_aggregate(tmp_path):
    with Engine(tmp_path, policy=Policy()) as engine:
        assert not engine.measure_critical_data(b"a", b"b", b"c")
        assert names(engine) == [b"boot_aggregate"]
