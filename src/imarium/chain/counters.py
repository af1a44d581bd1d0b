"""The measured update counter: whether the records between two readings of it are all there.

A TPM counts one update for each digest that extends a register (pcrUpdateCounter): one per record and bank. It is one
for all registers, so that extends of others count too; 16 and 23 do not. A reading is taken before its own record is
extended. Readings are claims as everything in a list, until the list leads to the registers.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from imarium.chain.aggregate import pcr_aggregate
from imarium.chain.registers import RegisterValues, initial_value
from imarium.chain.replay import ReplayResult
from imarium.errors import MalformedRecord
from imarium.formats.records import Frame, ListLayout, Record
from imarium.formats.registers import PcrIndex
from imarium.formats.templates import template
from imarium.hashes import HashAlgorithm

__all__ = ["CounterInterval", "CounterReading", "CounterTrail", "Verdict", "explain_counters", "extended_elsewhere"]

UNCOUNTED = frozenset({16, 23})
_TPM_PCRS = 24
_WATCHED = range(16)
"""The registers to know before it is said that no other was extended. Above are those of a dynamic launch."""

_TEXT = re.compile(rb"update_counter=(0|[1-9][0-9]{0,19});", re.ASCII)
_MOST_BANKS = 8

Verdict = Literal["exact", "other_registers", "missing", "missing_or_other", "surplus", "reset"]


@dataclass(frozen=True, slots=True)
class CounterReading:
    """A record that holds the counter's value. ``extends`` is how many counted records of the list lie before it."""

    record: int
    name: str
    value: int
    extends: int


@dataclass(frozen=True, slots=True)
class CounterInterval:
    """What lies between two readings, at the records ``first`` and ``last``.

    ``extends`` records of the list account for ``expected`` of the ``updates``. ``missing`` are the least and the most
    records that can be missing here. The verdict is ``exact``; ``other_registers`` where the registers' values prove
    that no record is missing, so that others were extended; ``missing`` where no other register was extended;
    ``missing_or_other`` where that cannot be told; ``surplus`` where more records are there than were extended; and
    ``reset`` where the counter went back.
    """

    first: int
    last: int
    extends: int
    updates: int
    expected: int
    verdict: Verdict
    missing: tuple[int, int]


class CounterTrail:
    """Finds the readings along a list. Fed with the frames that a replay is fed with."""

    def __init__(self, layout: ListLayout, first: int = 0) -> None:
        self._layout = layout
        self._number = first
        self._extends = 0
        self.readings: list[CounterReading] = []
        self.registers: set[PcrIndex] = set()

    def feed(self, frames: Sequence[Frame]) -> None:
        """Look at the next frames of the list."""
        found = [i for i, frame in enumerate(frames) if frame[2] == b"ima-buf" and b"update_counter=" in frame[3]]
        begin = 0
        for index in found:
            self._count(frames[begin:index])
            self._read(frames[index], self._number + index)
            begin = index
        self._count(frames[begin:])
        self._number += len(frames)

    def _count(self, frames: Sequence[Frame]) -> None:
        per_register = Counter(frame[0] for frame in frames)
        self.registers |= {PcrIndex(pcr) for pcr in per_register}
        self._extends += sum(n for pcr, n in per_register.items() if pcr < _TPM_PCRS and pcr not in UNCOUNTED)

    def _read(self, frame: Frame, number: int) -> None:
        pcr, digest, name, data = frame
        found = template(name)
        assert found is not None  # noqa: S101 - ima-buf is built in
        record = Record(number, 0, PcrIndex(pcr), digest, found, data, self._layout)
        try:
            event, text = record.name or b"", _TEXT.fullmatch(record.fields[2])
        except MalformedRecord:
            return
        if event.endswith(b"_tpm_update_counter") and text is not None:
            shown = event.decode("ascii", "backslashreplace")
            self.readings.append(CounterReading(number, shown, int(text[1]), self._extends))


def extended_elsewhere(values: RegisterValues, own: set[PcrIndex], result: ReplayResult) -> frozenset[PcrIndex] | None:
    """Which registers that are not the list's ``own`` were extended since it began; None where that is not known.

    A register that holds its initial value was not. Nor were those of the boot, where they still hash to the list's
    first boot_aggregate.
    """
    if any(PcrIndex(pcr) not in values for pcr in _WATCHED):
        return None
    boot = _boot_registers(values, result)
    return frozenset(
        pcr
        for pcr, banks in values.items()
        if pcr not in own | boot
        and pcr < _TPM_PCRS
        and pcr not in UNCOUNTED
        and any(value != initial_value(pcr, bank) for bank, value in banks.items())
    )


def _boot_registers(values: RegisterValues, result: ReplayResult) -> frozenset[PcrIndex]:
    for aggregate in result.boot_aggregates[:1]:
        for bank in {bank for banks in values.values() for bank in banks}:
            held = {pcr: banks[bank] for pcr, banks in values.items() if bank in banks}
            if bank.name == aggregate.algorithm and pcr_aggregate(held, bank) == aggregate.digest:
                return frozenset(PcrIndex(pcr) for pcr in range(10))
    return frozenset()


def explain_counters(
    trail: CounterTrail,
    result: ReplayResult,
    values: Mapping[PcrIndex, Mapping[HashAlgorithm, bytes]],
    banks: int | None = None,
) -> tuple[CounterInterval, ...]:
    """What each interval between two readings says. ``values`` are the registers' as far as they are known.

    ``banks`` is how many banks each record extended; by default what explains most intervals, no fewer than ``values``
    have.
    """
    pairs = list(zip(trail.readings, trail.readings[1:], strict=False))
    known = max((len(of) for pcr, of in values.items() if pcr in trail.registers), default=1)
    per_record = banks or _told_banks(pairs, known)
    elsewhere = extended_elsewhere(values, trail.registers, result)
    proven = result.matches.prefix if trail.registers <= result.matches.covered.keys() else None
    return tuple(_interval(one, two, per_record, proven, elsewhere) for one, two in pairs)


def _told_banks(pairs: Sequence[tuple[CounterReading, CounterReading]], least: int) -> int:
    """The number of banks that explains most intervals; of several the largest that leaves no surplus."""
    changes = [(two.extends - one.extends, two.value - one.value) for one, two in pairs if two.value >= one.value]

    def fits(banks: int) -> tuple[int, int, int]:
        exact = sum(updates == banks * extends for extends, updates in changes)
        surplus = sum(updates < banks * extends for extends, updates in changes)
        return exact, -surplus, banks

    return max(range(least, max(_MOST_BANKS, least) + 1), key=fits)


def _interval(
    one: CounterReading, two: CounterReading, banks: int, proven: int | None, elsewhere: frozenset[PcrIndex] | None
) -> CounterInterval:
    extends, updates = two.extends - one.extends, two.value - one.value
    excess = updates - banks * extends
    most = max(excess, 0) // banks
    verdict: Verdict
    missing = (0, most)
    if updates < 0:
        verdict, missing = "reset", (0, 0)
    elif excess < 0:
        verdict = "surplus"
    elif excess == 0:
        verdict = "exact"
    elif proven is not None and proven >= two.record:
        verdict, missing = "other_registers", (0, 0)
    elif most == 0:
        verdict = "other_registers"
    elif elsewhere is not None and not elsewhere and excess % banks == 0:
        verdict, missing = "missing", (most, most)
    else:
        verdict = "missing_or_other"
    return CounterInterval(one.record, two.record, extends, updates, banks * extends, verdict, missing)
