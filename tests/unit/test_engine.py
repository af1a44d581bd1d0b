"""The engine: what it measures of itself, in which order, what it does when a root of trust fails, and its lives."""

import errno
import threading

import pytest
from tests.unit.engine_builders import EVERYTHING, listed, names, reached
from tests.unit.faulty_root import FaultyRoot

from imarium.engine import (
    Action,
    Engine,
    EngineOptions,
    Event,
    Hook,
    Policy,
    QueueError,
    find_template,
    list_layout,
)
from imarium.errors import DeviceError, MissingComponent, UsageError
from imarium.formats import BUILTIN_TEMPLATES, ListForm, ListKind, PcrIndex, read_list
from imarium.hashes import SHA1, SHA256


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


def test_the_status_says_that_a_root_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("imarium.engine.engine._PATIENCE", 0.1)
    root, called, answers = FaultyRoot(), threading.Event(), threading.Event()
    extend = root.extend

    def hang(register, digests):
        called.set()
        answers.wait(60)
        extend(register, digests)

    with Engine(tmp_path, roots=[root], policy=EVERYTHING) as engine:
        monkeypatch.setattr(root, "extend", hang)
        thread = threading.Thread(target=engine.measure_critical_data, args=(b"label", b"name", b"data"))
        thread.start()
        assert called.wait(60)
        with pytest.raises(DeviceError, match="does not answer"):
            engine.status()
        answers.set()
        thread.join(60)
        assert engine.status().registers[0].waiting == 0


def test_an_engine_that_has_not_begun_measures_nothing(tmp_path):
    engine = Engine(tmp_path)
    with pytest.raises(UsageError, match="not begun"):
        engine.status()


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
