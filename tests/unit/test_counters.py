"""The update counter: intervals explained exactly, with a record missing, with other registers extended, with both."""

import pytest
from tests.unit.engine_builders import measurement

from imarium.chain import CounterTrail, Replay, explain_counters
from imarium.engine import Event, Measurement, event_data, find_template, list_layout
from imarium.formats import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384

LAYOUT = list_layout(SHA1, "little")


class Machine:
    """Registers and their counter, a list, and others who extend other registers."""

    def __init__(self, banks):
        self.banks = banks
        self.updates = 0
        self.made = []
        self.values = {PcrIndex(pcr): {bank: bytes(bank.size) for bank in banks} for pcr in range(16)}

    def measure(self, number, **options):
        self._add(measurement(number, **options))

    def count(self):
        text = b"update_counter=%d;" % self.updates
        event = Event(b"ima_init_tpm_update_counter", SHA256, SHA256.digest(text), buffer=text)
        template = find_template("ima-buf")
        self._add(Measurement(IMA_PCR, template, event_data(template, event, "little")))

    def other(self, pcr=11, banks=None):
        for bank in banks or self.banks:
            self._extend(pcr, bank, b"\1" * bank.size)

    def _add(self, made):
        self.made.append(made)
        for bank in self.banks:
            self._extend(made.pcr, bank, made.extended(bank))

    def _extend(self, pcr, bank, digest):
        values = self.values[PcrIndex(pcr)]
        values[bank] = bank.digest(values[bank] + digest)
        self.updates += pcr not in {16, 23}

    def explain(self, without=(), values="all", banks=None):
        frames = [m.record(n, SHA1).frame for n, m in enumerate(self.made) if n not in without]
        known = {"all": self.values, "own": {IMA_PCR: self.values[IMA_PCR]}, "none": {}}[values]
        run = Replay(LAYOUT, self.banks, targets=known, optional=known.keys() - {IMA_PCR})
        trail = CounterTrail(LAYOUT)
        for begin in range(0, len(frames), 7):
            run.feed(frames[begin : begin + 7])
            trail.feed(frames[begin : begin + 7])
        return explain_counters(trail, run.result(), known, banks)


BANKS = [(SHA256,), (SHA1, SHA256), (SHA1, SHA256, SHA384)]


def filled(banks, intervals=4):
    machine = Machine(banks)
    for interval in range(intervals):
        machine.count()
        for number in range(3 + interval):
            machine.measure(10 * interval + number, violation=number == 1)
    machine.count()
    return machine


@pytest.mark.parametrize("banks", BANKS)
@pytest.mark.parametrize("values", ["all", "own", "none"])
def test_the_counters_difference_explains_the_records_between_exactly(banks, values):
    found = filled(banks).explain(values=values)
    assert [(i.first, i.last, i.extends, i.verdict) for i in found] == [
        (0, 4, 4, "exact"),
        (4, 9, 5, "exact"),
        (9, 15, 6, "exact"),
        (15, 22, 7, "exact"),
    ]
    assert all(i.updates == i.expected == i.extends * len(banks) for i in found)
    assert {i.missing for i in found} == {(0, 0)}


@pytest.mark.parametrize("banks", BANKS)
def test_a_missing_record_is_named_by_its_interval(banks):
    found = filled(banks).explain(without={11})
    assert [i.verdict for i in found] == ["exact", "exact", "missing", "exact"]
    assert (found[2].first, found[2].last, found[2].missing) == (9, 14, (1, 1))


@pytest.mark.parametrize("values", ["own", "none"])
def test_without_the_other_registers_values_it_cannot_be_told_from_others_extends(values):
    found = filled((SHA1, SHA256)).explain(without={11}, values=values)
    assert [i.verdict for i in found] == ["exact", "exact", "missing_or_other", "exact"]
    assert found[2].missing == (0, 1)


def test_others_extends_beside_a_missing_record_are_told_differently():
    machine = filled((SHA1, SHA256))
    machine.other()
    machine.count()
    machine.measure(500)
    machine.measure(501)
    machine.count()
    found = machine.explain(without={25})
    assert [(i.verdict, i.missing) for i in found[4:]] == [("missing_or_other", (0, 1)), ("missing_or_other", (0, 1))]


def test_others_extends_alone_are_recognized_by_the_registers_values():
    machine = Machine((SHA1, SHA256))
    machine.count()
    machine.measure(1)
    machine.other()
    machine.count()
    for values in ("all", "own"):
        (interval,) = machine.explain(values=values, banks=2)
        assert (interval.verdict, interval.missing, interval.updates - interval.expected) == (
            "other_registers",
            (0, 0),
            2,
        )


def test_an_extend_of_one_bank_alone_cannot_be_a_record():
    machine = filled((SHA1, SHA256))
    machine.other(banks=[SHA256])
    machine.count()
    (*_, last) = machine.explain(values="none")
    assert (last.verdict, last.missing) == ("other_registers", (0, 0))


def test_registers_that_do_not_count_and_records_in_them():
    machine = Machine((SHA1, SHA256))
    machine.values[PcrIndex(23)] = {bank: bytes(bank.size) for bank in machine.banks}
    machine.count()
    machine.measure(1, pcr=23)
    machine.measure(2, pcr=12)
    machine.count()
    (interval,) = machine.explain(values="none")
    assert (interval.extends, interval.verdict) == (2, "exact")


def test_the_boots_registers_are_not_others_while_they_hash_to_the_boot_aggregate():
    machine = Machine((SHA1, SHA256))
    for pcr in range(10):
        machine.other(pcr)
    digest = SHA256.digest(b"".join(machine.values[PcrIndex(pcr)][SHA256] for pcr in range(10)))
    template = find_template("ima-ng")
    event = Event(b"boot_aggregate", SHA256, digest)
    machine._add(Measurement(IMA_PCR, template, event_data(template, event, "little")))
    machine.count()
    for number in range(4):
        machine.measure(number)
    machine.count()
    assert [i.verdict for i in machine.explain(without={3})] == ["missing"]
    machine.other(7)
    assert [i.verdict for i in machine.explain(without={3})] == ["missing_or_other"]


def test_more_records_than_updates_and_a_counter_that_went_back():
    machine = filled((SHA256,))
    machine.updates -= 1
    machine.count()
    machine.updates = 3
    machine.count()
    assert [i.verdict for i in machine.explain()[4:]] == ["surplus", "reset"]


@pytest.mark.parametrize(
    "text", [b"update_counter=;", b"update_counter=-1;", b"update_counter=1", b"update_counter=01;"]
)
def test_what_only_looks_like_a_counter_is_none(text):
    trail = CounterTrail(LAYOUT)
    template = find_template("ima-buf")
    event = Event(b"ima_init_tpm_update_counter", SHA256, bytes(32), buffer=text)
    data = event_data(template, event, "little")
    frames = [
        Measurement(IMA_PCR, template, each).record(0, SHA1).frame for each in (data, data[:-3], b"update_counter=")
    ]
    trail.feed(frames)
    assert trail.readings == []
