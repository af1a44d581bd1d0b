import errno
import random
import threading

import pytest
from tests.unit.engine_builders import every_template, measurement

from imarium.chain import replay
from imarium.engine import Measurement, MeasurementQueue, QueueError, RecordList, list_layout
from imarium.formats import IMA_PCR, encode_record, read_records
from imarium.hashes import SHA1, SHA256, SHA384, SHA512


def filled(count, **options):
    queue = MeasurementQueue(**options)
    for number in range(count):
        assert queue.add(measurement(number))
    return queue


def number_of(call, *arguments):
    with pytest.raises(QueueError) as caught:
        call(*arguments)
    return caught.value.number


def listed(records, bank=SHA1):
    return b"".join(encode_record(records[n].record(n, bank)) for n in range(records.first, records.end))


@pytest.mark.parametrize("bank", [SHA1, SHA256, SHA384, SHA512])
def test_records_of_every_template_are_read_back_from_each_banks_list(bank):
    queue = MeasurementQueue()
    made = every_template()
    for each in made:
        assert queue.add(each)
    assert list(queue.current) == made
    read = list(read_records([listed(queue.current, bank)], made[0].record(0, bank).layout))
    assert [(r.template, r.data, r.digest_is_good) for r in read] == [(m.template, m.data, True) for m in made]


def test_the_list_replays_to_what_was_extended_with_violations_and_in_order():
    extended = []
    queue = MeasurementQueue(anchor=lambda number, m: extended.append((number, m.extended(SHA256))))
    for each in (measurement(1), measurement(2, violation=True), measurement(3), measurement(2, violation=True)):
        assert queue.add(each)
    assert [number for number, _ in extended] == [0, 1, 2, 3]
    assert extended[1][1] == b"\xff" * 32
    value = bytes(32)
    for _, digest in extended:
        value = SHA256.digest(value + digest)
    result = replay([listed(queue.current)], list_layout(SHA1, "little"))
    assert result.state.values[IMA_PCR][SHA256] == value
    assert (result.violations, queue.violations) == (2, 2)
    assert not result.bad_digests


def test_a_duplicate_is_dropped_for_the_same_register_only():
    queue = filled(1)
    assert not queue.add(measurement(0))
    assert queue.add(measurement(0, pcr=11))
    assert not queue.add(measurement(0, pcr=11))
    assert queue.counts.current == 2


def test_the_record_is_in_the_list_before_it_is_extended_and_stays_when_that_fails():
    seen = []

    def anchor(number, _measurement):
        seen.append((number, len(queue.current)))
        raise RuntimeError("a device")

    queue = MeasurementQueue(anchor=anchor)
    with pytest.raises(RuntimeError):
        queue.add(measurement(0))
    assert seen == [(0, 1)]
    assert not queue.add(measurement(0))


@pytest.mark.parametrize(
    ("staged", "current", "suspended", "stage", "delete_staged", "delete_one"),
    [
        (0, 0, False, errno.ENOENT, errno.ENOENT, errno.ENOENT),
        (0, 2, False, None, errno.ENOENT, None),
        (2, 0, False, errno.EEXIST, None, errno.ENOENT),
        (2, 2, False, errno.EEXIST, None, None),
        (0, 0, True, errno.ENOENT, errno.ENOENT, errno.ENOENT),
        (0, 2, True, errno.EACCES, errno.ENOENT, errno.ESTALE),
        (2, 0, True, errno.EEXIST, errno.ESTALE, errno.ENOENT),
        (2, 2, True, errno.EEXIST, errno.ESTALE, errno.ESTALE),
    ],
)
def test_each_command_in_each_state(staged, current, suspended, stage, delete_staged, delete_one):
    def made():
        queue = filled(staged)
        if staged:
            queue.stage_all()
        for number in range(staged, staged + current):
            queue.add(measurement(number))
        if suspended:
            queue.suspend()
        return queue

    for name, arguments, expected in (("stage_all", (), stage), ("delete_staged", (), delete_staged)):
        queue = made()
        before = queue.counts
        if expected:
            assert number_of(getattr(queue, name), *arguments) == expected
            assert queue.counts == before
        else:
            getattr(queue, name)(*arguments)
    queue = made()
    if delete_one:
        assert number_of(queue.delete, 1) == delete_one
    else:
        queue.delete(1)
        assert queue.counts.current == current - 1
    assert made().counts.full == staged + current


def test_deleting_by_number_takes_the_oldest_or_none():
    queue = filled(3000)
    assert number_of(queue.delete, 0) == errno.EINVAL
    assert number_of(queue.delete, 3001) == errno.ENOENT
    assert queue.counts.current == 3000
    queue.delete(1500)
    assert (queue.current.first, queue.current.end, queue.counts.full) == (1500, 3000, 3000)
    assert queue.current[1500] == measurement(1500)
    with pytest.raises(IndexError):
        queue.current[1499]
    queue.delete(1500)
    assert queue.counts.current == 0
    assert queue.current.size == 0


def test_the_size_is_that_of_the_records_that_are_left():
    records = RecordList("little")
    made = [measurement(number, name="/" + "x" * (number % 50 + 1)) for number in range(5000)]
    for each in made:
        records.append(each)
    for count in (0, 1, 1022, 1, 1, 2047, 500):
        records.delete(count)
        assert records.size == sum(each.runtime_size for each in made[records.first :])
        assert records.size == len(listed(records))


def test_flushing_forgets_digests_with_the_staged_records_and_refuses_to_delete_by_number():
    queue = filled(1, flush_htable=True)
    assert number_of(queue.delete, 1) == errno.EINVAL
    queue.stage_all()
    assert not queue.add(measurement(0))
    queue.delete_staged()
    assert queue.add(measurement(0))


def test_without_flushing_a_deleted_record_is_not_measured_again():
    queue = filled(1)
    queue.stage_all()
    queue.delete_staged()
    assert not queue.add(measurement(0))
    assert queue.counts.full == 1


def test_suspended_measuring_is_refused_also_for_a_duplicate_and_counts_violations():
    queue = filled(1)
    queue.suspend()
    assert number_of(queue.add, measurement(0)) == errno.ENODEV
    assert number_of(queue.add, measurement(5, violation=True)) == errno.ENODEV
    assert (queue.violations, queue.counts.full) == (1, 1)


def test_restored_records_are_neither_known_nor_extended():
    extended = []
    queue = MeasurementQueue(anchor=lambda number, _measurement: extended.append(number), first=7)
    assert queue.restore([measurement(0), measurement(1)]) == 2
    assert queue.add(measurement(0))
    assert extended == [9]
    assert queue.counts.full == 3
    assert number_of(queue.restore, []) == errno.EEXIST


def test_what_is_added_while_staging_is_staged_as_the_last_record():
    queue: MeasurementQueue = filled(1, staging=lambda: queue.add(measurement(100)))
    queue.stage_all()
    assert list(queue.staged) == [measurement(0), measurement(100)]
    assert number_of(queue.stage_all) == errno.EEXIST
    assert queue.counts.current == 0


def test_random_commands_against_a_plain_model():
    rng = random.Random(4)  # noqa: S311 - the same commands each time
    queue, number = MeasurementQueue(), 0
    current: list[int] = []
    staged: list[int] = []
    deleted: list[int] = []
    for _ in range(1000):
        match rng.randrange(6):
            case 0 if current and not staged:
                queue.stage_all()
                current, staged = [], current
            case 1 if staged:
                queue.delete_staged()
                deleted, staged = deleted + staged, []
            case 2 if current and not staged:
                count = rng.randrange(1, len(current) + 1)
                queue.delete(count)
                deleted, current = deleted + current[:count], current[count:]
            case _:
                for _ in range(rng.randrange(300)):
                    queue.add(measurement(number))
                    current.append(number)
                    number += 1
        assert (queue.counts.current, queue.counts.staged, queue.counts.full) == (len(current), len(staged), number)
        for records, model in ((queue.current, current), (queue.staged, staged)):
            if model:
                index = rng.randrange(len(model))
                assert records[records.first + index] == measurement(model[index])
                assert records.first == model[0]
    assert deleted + staged + current == list(range(number))


def test_threads_measure_while_another_stages_and_no_record_is_lost_or_twice():
    order = []
    queue = MeasurementQueue(anchor=lambda _number, m: order.append(m.data))
    taken: list[Measurement] = []

    def measure(start):
        for number in range(start, start + 2000):
            queue.add(measurement(number % 5000))

    threads = [threading.Thread(target=measure, args=(start,)) for start in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or queue.counts.current:
        try:
            queue.stage_all()
        except QueueError:
            continue
        taken += list(queue.staged)
        queue.delete_staged()
    for thread in threads:
        thread.join()
    assert [m.data for m in taken] == order
    assert len({m.data for m in taken}) == len(taken) == 5000
