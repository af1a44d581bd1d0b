"""Finding the prefix of a list that given register values cover.

A list and a quote are never quite in step: the list may go on after the moment the registers were read. So the values
are looked for after every record, in every bank at once.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from imarium.chain.registers import RegisterValues
from imarium.formats.records import Frame
from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = ["Matches", "RegisterMatcher"]


@dataclass(frozen=True, slots=True)
class Matches:
    """What given register values cover of a list.

    ``covered`` has, per register and bank, the number of the log's records up to and with the last one that the value
    stands for, or None where the value was never reached. ``prefix`` is the number of records up to the moment at
    which every given value held, or None where there was no such moment. ``verified`` counts the records that the
    values prove: those before ``prefix`` in a register whose value is given.
    """

    covered: Mapping[PcrIndex, Mapping[HashAlgorithm, int | None]]
    prefix: int | None
    verified: int


@dataclass(slots=True)
class _Register:
    """One register's search: ``hits`` per bank, records seen when it was hit, and the first record after that."""

    targets: Mapping[HashAlgorithm, bytes]
    optional: bool
    hits: dict[HashAlgorithm, int] = field(default_factory=dict)
    seen: int = 0
    seen_at_hit: int = 0
    next_record: int | None = None
    used: bool = False

    @property
    def hit(self) -> int | None:
        """The one number of records after which every bank has its value."""
        numbers = {self.hits.get(bank) for bank in self.targets}
        return numbers.pop() if len(numbers) == 1 else None


class RegisterMatcher:
    """Looks for given register values along a replay. Fed by the replay, block by block."""

    def __init__(
        self, targets: RegisterValues, start: RegisterValues, first: int, optional: Container[PcrIndex] = ()
    ) -> None:
        """``start`` has the registers' values before record ``first``.

        An ``optional`` register is left out of the result if the list turns out to have no record for it.
        """
        self._registers = {pcr: _Register(dict(banks), pcr in optional) for pcr, banks in targets.items() if banks}
        for pcr, register in self._registers.items():
            for bank, target in register.targets.items():
                if start[pcr][bank] == target:
                    register.hits[bank] = first

    def wants(self, bank: HashAlgorithm) -> bool:
        """Whether some register's value in this bank has not been reached yet."""
        return any(bank in register.targets and bank not in register.hits for register in self._registers.values())

    def look(self, bank: HashAlgorithm, frames: Sequence[Frame], trail: list[bytes], number: int) -> None:
        """Look for the targets of ``bank`` in ``trail``: the value each frame's register had after that frame."""
        for pcr in {PcrIndex(frame[0]) for frame in frames} & self._registers.keys():
            register = self._registers[pcr]
            target = register.targets.get(bank)
            if target is None or bank in register.hits or target not in trail:
                continue
            hit = next((i for i, value in enumerate(trail) if value == target and frames[i][0] == pcr), None)
            if hit is not None:
                register.hits[bank] = number + hit + 1

    def advance(self, frames: Sequence[Frame], number: int) -> None:
        """Note a block whose first frame is record ``number``, after :meth:`look` was called for each bank."""
        present = {frame[0] for frame in frames}
        for pcr in present & self._registers.keys():
            register = self._registers[PcrIndex(pcr)]
            register.used = True
            hit = register.hit
            if hit is None or hit > number:
                before = len(frames) if hit is None else hit - number
                register.seen += sum(frame[0] == pcr for frame in frames[:before])
                register.seen_at_hit = register.seen
            if hit is not None and register.next_record is None:
                begin = max(hit - number, 0)
                following = (number + i for i, frame in enumerate(frames[begin:], begin) if frame[0] == pcr)
                register.next_record = next(following, None)

    def result(self) -> Matches:
        """What was found so far."""
        registers = {pcr: r for pcr, r in self._registers.items() if r.used or not r.optional}
        covered = {
            pcr: {bank: register.hits.get(bank) for bank in register.targets} for pcr, register in registers.items()
        }
        hits = [register.hit for register in registers.values()]
        reached = [hit for hit in hits if hit is not None]
        ends = [r.next_record for r in registers.values() if r.next_record is not None]
        if not hits or len(reached) != len(hits) or (ends and max(reached) > min(ends)):
            return Matches(covered, None, 0)
        return Matches(covered, max(reached), sum(register.seen_at_hit for register in registers.values()))
