"""Whether records are what the registers hold: replay against values that were read. Pure.

A register read after records were staged stands for all of them, because the kernel appends and extends under one
lock. The list that is read after the register can be ahead of it, never behind.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from imarium.chain import ChainState, RegisterValues, Replay
from imarium.formats.records import ListLayout, RecordFramer
from imarium.formats.registers import IMA_PCR, PcrIndex
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["UNTIL_RESET", "Proof", "ReadRegisters", "bad_digest", "banks_of", "no_registers", "prove"]

ReadRegisters = Callable[[Collection[PcrIndex]], RegisterValues]
"""Reads the named registers of the root of trust as they are now, as far as they can be read."""

UNTIL_RESET = "only a restart, which resets the registers, mends that"
"""What to do where records are missing, for people."""

_DEFAULT_BANKS = (SHA1, SHA256)


def no_registers(_registers: Collection[PcrIndex]) -> RegisterValues:
    """For sources whose registers cannot be read."""
    return {}


@dataclass(frozen=True, slots=True)
class Proof:
    """What a replay of ``records`` new records showed.

    ``state`` is the replay after them. ``covered`` has, for each register that has records and could be read, how
    many records of the log its value stands for, or None if the value was never reached; ``needed`` has how many it
    must stand for to vouch for all new records. ``bad_digests`` are numbers of records whose template digest is not
    that of their data; ``kernels`` are the numbers of the boot aggregates.
    """

    records: int
    state: ChainState
    covered: Mapping[PcrIndex, int | None]
    needed: Mapping[PcrIndex, int]
    missed_banks: frozenset[HashAlgorithm]
    bad_digests: tuple[int, ...]
    kernels: tuple[int, ...]

    @property
    def readable(self) -> bool:
        """Whether there was any register to compare with."""
        return bool(self.covered)

    @property
    def reached(self) -> bool:
        """Whether every register's value was found along the records."""
        return self.readable and all(hit is not None for hit in self.covered.values())

    @property
    def complete(self) -> bool:
        """Whether, on top of that, the values stand for all the new records."""
        return self.reached and all(hit is not None and hit >= self.needed[pcr] for pcr, hit in self.covered.items())

    @property
    def registers(self) -> tuple[PcrIndex, ...]:
        """The registers that were reached."""
        return tuple(pcr for pcr, hit in self.covered.items() if hit is not None)

    def doubt(self) -> str:
        """Why the proof is not complete: one line; empty if it is, or if there was nothing to compare with."""
        if self.bad_digests:
            return bad_digest(self.bad_digests[0])
        for pcr, hit in self.covered.items():
            if hit is None:
                reason = "records are missing, or something else extended it"
                return f"register {pcr} is not reached by replay: {reason}; {UNTIL_RESET}"
            if hit < self.needed[pcr]:
                return f"register {pcr} stands for {hit} records only, so those from {hit} on are not proved"
        return ""


def bad_digest(record: int) -> str:
    """Why a record is not to be deleted whose template digest is not the right one: one line."""
    return f"the template digest of record {record} is not that of its data"


def banks_of(values: RegisterValues) -> tuple[HashAlgorithm, ...]:
    """The banks to replay: SHA-1, SHA-256 and those of the values that can be computed here."""
    found = (bank for banks in values.values() for bank in banks if bank.computable)
    return tuple(dict.fromkeys([*_DEFAULT_BANKS, *found]))


def prove(
    new: Iterable[bytes],
    beyond: Iterable[bytes],
    layout: ListLayout,
    *,
    start: ChainState,
    values: RegisterValues,
    padded: frozenset[HashAlgorithm] = frozenset(),
) -> Proof:
    """Replay ``new`` and then ``beyond``, both binary lists in blocks, from ``start`` and look for ``values``.

    ``start`` must know the banks of :func:`banks_of`. No more than a block is held. Raises MalformedRecord.
    """
    banks = banks_of(values)
    targets = _targets(values, banks)
    unnamed = targets.keys() - {IMA_PCR}  # a register that no record names says nothing
    run = Replay(layout, banks, padded=padded.intersection(banks), start=start, targets=targets, optional=unnamed)
    framer = RecordFramer(layout, first=start.records)
    last: dict[int, int] = {}
    for block in new:
        number = framer.number
        frames = framer.feed(block)
        run.feed(frames)
        last.update({frame[0]: after for after, frame in enumerate(frames, number + 1)})
    framer.finish()
    kept = run.result()
    for block in beyond:
        run.feed(framer.feed(block))
    framer.finish()
    result = run.result()
    hits = {pcr: list(found.values()) for pcr, found in result.matches.covered.items()}
    needed = {pcr: last.get(pcr, start.records) for pcr in hits}
    return Proof(
        records=kept.records,
        state=kept.state,
        covered={pcr: _least(found) for pcr, found in hits.items()},
        needed=needed,
        missed_banks=frozenset(
            bank for found in result.matches.covered.values() for bank, hit in found.items() if hit is None
        ),
        bad_digests=kept.bad_digests,
        kernels=tuple(aggregate.record for aggregate in result.boot_aggregates),
    )


def _targets(values: RegisterValues, banks: tuple[HashAlgorithm, ...]) -> dict[PcrIndex, dict[HashAlgorithm, bytes]]:
    targets = {
        pcr: {bank: value for bank, value in by_bank.items() if bank in banks}
        for pcr, by_bank in sorted(values.items())
    }
    return {pcr: by_bank for pcr, by_bank in targets.items() if by_bank}


def _least(hits: list[int | None]) -> int | None:
    numbers = [hit for hit in hits if hit is not None]
    return min(numbers) if len(numbers) == len(hits) else None
