"""Which lines of a journal stay when it has grown long. Pure.

The newest lines stay, and those of any age that a person asks for years later. What custody needs of the others (the
size of the list, the registers there, who proved it) goes into one line that stands for them.
"""

from collections.abc import Sequence
from dataclasses import replace

from imarium.custody.entry import GROWING, Entry, Event

__all__ = ["compacted"]

_NEWEST = 64
"""How many of the newest lines stay at least."""
_NOTABLE = frozenset(
    {
        Event.GAP,
        Event.COUNTED,
        Event.MACHINE,
        Event.CUT,
        Event.CARRIED,
        Event.REMOVED,
        Event.REFUSED,
        Event.REBUILT,
    }
)
_MOST_NOTABLE = 512
"""How many older notable lines stay at most: the newest of them."""


def compacted(entries: Sequence[Entry]) -> tuple[Entry, ...] | None:
    """The lines to go on with; None if there is nothing to leave out."""
    older = range(len(entries) - _NEWEST - 1, 0, -1)
    growing = [number for number in older if entries[number].event in GROWING]
    last = next((number for number in growing if entries[number].state), growing[0] if growing else None)
    if last is None:
        return None
    left_out, stay = entries[: last + 1], entries[last + 1 :]
    notable = [entry for entry in left_out if entry.event in _NOTABLE][-_MOST_NOTABLE:]
    before = sum(1 for entry in left_out if entry.event not in _NOTABLE)
    proved = next((entry.registers for entry in reversed(left_out) if entry.registers), ())
    snapshot = replace(
        entries[last],
        event=Event.SNAPSHOT,
        next_base=None,
        registers=proved,
        detail=f"stands for {before} lines, the first of {left_out[0].at}",
    )
    return (*notable, snapshot, *stay) if len(notable) < last else None
