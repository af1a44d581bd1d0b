"""Replay: what a measurement list says the registers hold.

Every template digest is recomputed from its record's data and the recomputed one extends the chains, so that a chain
vouches for the data; a stored digest that differs is reported by record number. Pure: blocks of bytes in, values out.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imarium.chain.match import Matches, RegisterMatcher
from imarium.chain.registers import RegisterValues, violation_digest
from imarium.chain.state import ChainState
from imarium.errors import MalformedRecord, UsageError
from imarium.formats.fields import hash_input
from imarium.formats.records import Frame, ListLayout, Record, RecordFramer
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.formats.templates import template
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["BOOT_AGGREGATE_NAMES", "BootAggregate", "Replay", "ReplayResult", "replay"]

BOOT_AGGREGATE_NAMES = (b"boot_aggregate", b"boot_aggregate_late")
"""Names of the record a kernel begins with; the second says that IMA was initialised at late_initcall_sync."""


@dataclass(frozen=True, slots=True)
class BootAggregate:
    """A record named ``boot_aggregate`` or ``boot_aggregate_late``: a claim, as everything in a list."""

    record: int
    name: str
    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found. Record numbers are those of the log, from 0.

    ``records`` counts the records read and ``violations`` those among them that are violations. ``bad_digests`` has
    the numbers of records whose stored template digest is not the one their data gives. ``state`` is where the replay
    ended, ``matches`` what the given values cover, ``unverified`` how many of the records read they do not cover.
    """

    first: int
    records: int
    violations: int
    bad_digests: tuple[int, ...]
    boot_aggregates: tuple[BootAggregate, ...]
    state: ChainState
    matches: Matches

    @property
    def unverified(self) -> int:
        """How many of the records read are not covered by the given values."""
        return self.records - self.matches.verified


class Replay:
    """Replays frames over the chains of each register in each bank.

    ``padded`` names banks whose algorithm the kernel lacked, so that it extended SHA-1 digests with zeros behind
    them. ``targets`` are register values to look for; their banks are replayed too. An ``optional`` target is left
    out if neither ``start`` nor the list has a record for its register. Raises MissingComponent for a bank that cannot
    be computed here.
    """

    def __init__(
        self,
        layout: ListLayout,
        banks: Iterable[HashAlgorithm] = (SHA1, SHA256),
        *,
        padded: Iterable[HashAlgorithm] = (),
        start: ChainState | None = None,
        targets: RegisterValues | None = None,
        optional: Container[PcrIndex] = (),
    ) -> None:
        self._layout = layout
        self._start = start or ChainState()
        targets = targets or {}
        wanted = [*banks, *(bank for values in targets.values() for bank in values)]
        self._banks = tuple(dict.fromkeys(wanted))
        if not self._banks:
            raise UsageError("a replay needs at least one bank")
        self._padded = frozenset(padded)
        if SHA1 in self._padded:
            raise UsageError("the sha1 bank is never padded: its digests are what other banks are padded with")
        self._values: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {bank: {} for bank in self._banks}
        for pcr in {IMA_PCR, *self._start.values, *targets}:
            self._open(pcr)
        spare = {pcr for pcr in targets if pcr in optional and pcr not in self._start.values}
        self._matcher = RegisterMatcher(targets, self._by_register(), self._start.records, spare)
        self._idle = spare - {IMA_PCR}
        self._records = 0
        self._violations = 0
        self._bad: list[int] = []
        self._aggregates: list[BootAggregate] = []

    def _open(self, pcr: PcrIndex) -> None:
        for bank, values in self._values.items():
            values[pcr] = self._start.value(pcr, bank)

    def _by_register(self) -> dict[PcrIndex, dict[HashAlgorithm, bytes]]:
        pcrs = sorted(self._values[self._banks[0]])
        return {pcr: {bank: self._values[bank][pcr] for bank in self._banks} for pcr in pcrs}

    def feed(self, frames: Sequence[Frame]) -> None:
        """Replay the next frames of the list."""
        if not frames:
            return
        number = self._start.records + self._records
        present = {PcrIndex(frame[0]) for frame in frames}
        self._idle -= present
        for pcr in present - self._values[self._banks[0]].keys():
            self._open(pcr)
        stored = [frame[1] for frame in frames]
        inputs = [frame[3] if frame[2] != b"ima" else _legacy_input(frame[3]) for frame in frames]
        digests = {bank: _digests(bank, inputs, bank in self._padded) for bank in self._banks}
        zero = bytes(self._layout.digest.size)
        violations = stored.count(zero)
        self._check_column(stored, digests, inputs, number)
        for bank in self._banks:
            extended = digests[bank]
            if violations:
                ones = violation_digest(bank, padded=bank in self._padded)
                extended = [ones if s == zero else d for s, d in zip(stored, extended, strict=True)]
            trail = extend_block(bank, self._values[bank], frames, extended)
            if self._matcher.wants(bank):
                self._matcher.look(bank, frames, trail, number)
        self._matcher.advance(frames, number)
        self._note_boot_aggregates(frames, number)
        self._records += len(frames)
        self._violations += violations

    def _check_column(
        self, stored: list[bytes], digests: Mapping[HashAlgorithm, list[bytes]], inputs: list[bytes], number: int
    ) -> None:
        """Note the records whose stored template digest is neither the expected one nor a violation's."""
        layout = self._layout
        shared = layout.digest in digests and layout.padded == (layout.digest in self._padded)
        expected = digests[layout.digest] if shared else _digests(layout.digest, inputs, layout.padded)
        if stored != expected:
            zero = bytes(layout.digest.size)
            pairs = enumerate(zip(stored, expected, strict=True), number)
            self._bad += [i for i, (claim, fact) in pairs if claim not in (fact, zero)]

    def _note_boot_aggregates(self, frames: Sequence[Frame], number: int) -> None:
        for i, (pcr, digest, name, data) in enumerate(frames, number):
            if b"boot_aggregate" not in data:
                continue
            found = template(name)
            if found is None:
                continue
            record = Record(i, 0, PcrIndex(pcr), digest, found, data, self._layout)
            try:
                claimed, value = record.name, record.file_digest
            except MalformedRecord:
                continue
            if claimed in BOOT_AGGREGATE_NAMES and value is not None:
                self._aggregates.append(BootAggregate(i, claimed.decode("ascii"), value.algorithm, value.digest))

    def result(self) -> ReplayResult:
        """What the frames so far have led to."""
        values = {pcr: banks for pcr, banks in self._by_register().items() if pcr not in self._idle}
        return ReplayResult(
            first=self._start.records,
            records=self._records,
            violations=self._violations,
            bad_digests=tuple(self._bad),
            boot_aggregates=tuple(self._aggregates),
            state=ChainState(self._start.records + self._records, values),
            matches=self._matcher.result(),
        )


def extend_block(
    bank: HashAlgorithm, values: dict[PcrIndex, bytes], frames: Sequence[Frame], digests: Sequence[bytes]
) -> list[bytes]:
    """Extend ``digests`` into the registers of ``frames``, in ``values``; the value each led to, in order.

    This loop and the hashing of the data are what a replay spends its time on.
    """
    construct = bank.constructor()
    trail: list[bytes] = []
    append = trail.append
    registers = {frame[0] for frame in frames}
    if len(registers) == 1:
        pcr = PcrIndex(registers.pop())
        value = values[pcr]
        for digest in digests:
            value = construct(value + digest).digest()
            append(value)
        values[pcr] = value
        return trail
    for frame, digest in zip(frames, digests, strict=True):
        pcr = PcrIndex(frame[0])
        values[pcr] = value = construct(values[pcr] + digest).digest()
        append(value)
    return trail


def _digests(bank: HashAlgorithm, inputs: Sequence[bytes], padded: bool) -> list[bytes]:
    if padded:
        sha1, size = SHA1.constructor(), bank.size
        return [sha1(data).digest().ljust(size, b"\0") for data in inputs]
    construct = bank.constructor()
    return [construct(data).digest() for data in inputs]


def _legacy_input(data: bytes) -> bytes:
    legacy = template(b"ima")
    assert legacy is not None  # noqa: S101 - built in
    return hash_input(legacy, data)


def replay(
    blocks: Iterable[bytes],
    layout: ListLayout,
    banks: Iterable[HashAlgorithm] = (SHA1, SHA256),
    *,
    padded: Iterable[HashAlgorithm] = (),
    start: ChainState | None = None,
    targets: RegisterValues | None = None,
) -> ReplayResult:
    """Replay a binary list that arrives in blocks; see :class:`Replay`. Raises MalformedRecord.

    ``start`` is where the list begins: its records are numbered from there.
    """
    run = Replay(layout, banks, padded=padded, start=start, targets=targets)
    framer = RecordFramer(layout, first=start.records if start else 0)
    for block in blocks:
        run.feed(framer.feed(block))
    framer.finish()
    return run.result()
