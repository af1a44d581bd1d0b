"""A realm's measurement registers, and which of them a record of the measurement list went into.

A realm has five slots. Slot 0 is the initial measurement, the RIM; slots 1 to 4 are the extensible measurements, the
REMs, which a token lists from 0: slot n is REM[n-1].
"""

from dataclasses import dataclass
from typing import NewType

from imarium.errors import UsageError
from imarium.formats.registers import PcrIndex

__all__ = ["PCR_COLUMN_MAP", "REMS", "VIRTCCA_MAP", "RemIndex", "RemMap", "SlotIndex", "rem_of_slot", "slot_of_rem"]

REMS = 4
"""How many extensible measurements a realm has."""

RemIndex = NewType("RemIndex", int)
"""An index into a token's list of REMs: 0 to 3."""

SlotIndex = NewType("SlotIndex", int)
"""A measurement slot of a realm: 0, which is the RIM, to 4."""


def rem_of_slot(slot: SlotIndex) -> RemIndex:
    """The REM that ``slot`` is. Raises UsageError for slot 0, which is the RIM, and for slots that are not there."""
    if not 1 <= slot <= REMS:
        raise UsageError(f"REMs are in slots 1 to {REMS}, not {slot}")
    return RemIndex(slot - 1)


def slot_of_rem(rem: RemIndex) -> SlotIndex:
    """The slot of ``rem``. Raises UsageError for an index out of range."""
    if not 0 <= rem < REMS:
        raise UsageError(f"REMs go from 0 to {REMS - 1}, not {rem}")
    return SlotIndex(rem + 1)


@dataclass(frozen=True, slots=True)
class RemMap:
    """Which REM a record is extended into, by the PCR column of the measurement list.

    ``by_pcr`` is looked up first; a column it does not name goes to ``otherwise``, and nowhere if that is None.
    """

    otherwise: RemIndex | None
    by_pcr: tuple[tuple[PcrIndex, RemIndex], ...] = ()

    def __post_init__(self) -> None:
        targets = [rem for _, rem in self.by_pcr]
        for rem in targets if self.otherwise is None else [*targets, self.otherwise]:
            slot_of_rem(rem)
        if len({pcr for pcr, _ in self.by_pcr}) != len(self.by_pcr):
            raise UsageError("a map of registers names each PCR column once")

    def rem(self, pcr: PcrIndex) -> RemIndex | None:
        """The REM of records with this PCR column; None if they are extended into no REM."""
        return next((rem for column, rem in self.by_pcr if column == pcr), self.otherwise)


VIRTCCA_MAP = RemMap(otherwise=RemIndex(0))
"""What VirtCCA's kernel does: slot 1, whatever the column says."""

PCR_COLUMN_MAP = RemMap(
    otherwise=None, by_pcr=tuple((PcrIndex(slot), rem_of_slot(SlotIndex(slot))) for slot in range(1, REMS + 1))
)
"""What some verifiers read: columns 1 to 4 are slots 1 to 4, other columns are none."""
