"""A line of a log's journal: what it says, and its JSON document. The format is described in ``docs/store.md``."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from imarium.chain import ChainState
from imarium.custody.life import Machine
from imarium.errors import MalformedInput
from imarium.formats.registers import LIST_PCRS, PcrIndex

__all__ = ["GROWING", "BadEntry", "Damaged", "Entry", "Event", "entry_of"]


class BadEntry(ValueError):
    """What is wrong with a line, in a few words."""


class Damaged(MalformedInput):
    """A file of a log that is not as custody wrote it, rather than as another version did."""


class Event(StrEnum):
    """What a line of the journal says."""

    INTENT = "intent"
    """Records are about to be staged, or were found staged; they begin at ``base``."""
    KEPT = "kept"
    """Staged records are on stable storage and checked; they may be deleted from the kernel."""
    DELETED = "deleted"
    """The kernel has deleted everything before ``bytes``."""
    FOLLOWED = "followed"
    """The kernel's records were kept without deleting any; its list begins at ``base``."""
    CUT = "cut"
    """A run died: its whole, good records stay and the rest was cut."""
    GAP = "gap"
    """Records are missing before this log."""
    COUNTED = "counted"
    """The kernel has said how many records it has made, so how many are missing before this log."""
    SNAPSHOT = "snapshot"
    """Stands for older lines that were left out: what they say of the list up to ``bytes``, together."""
    REBUILT = "rebuilt"
    """The journal was damaged or gone: the size and the registers are those of the list's whole records."""
    MACHINE = "machine"
    """Which life of which machine the lines from here on are of, and how that was decided."""
    CARRIED = "carried"
    """A kexec is under way: what the kernel still has, from ``base`` on, goes on to the next kernel."""
    REMOVED = "removed"
    """An older log was deleted, as was asked for."""
    REFUSED = "refused"
    """Nothing was deleted, and why."""


GROWING = frozenset({Event.KEPT, Event.FOLLOWED, Event.CARRIED, Event.CUT, Event.SNAPSHOT, Event.REBUILT})
"""Events that name a size the list has grown to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``records`` and ``bytes`` are the log's size after it; ``state`` is the replay up to there.

    ``base`` is the byte of the log at which the kernel's oldest record stands; ``next_base``, in ``kept`` only, where
    it will stand once the staged records are deleted. ``boot_id`` is the kernel's. ``registers`` are those that proved
    the log, in ``kept`` and ``followed``; ``tail`` is a sum of the last bytes before ``bytes``, where there is a state.
    ``clock`` is the TPM's, in milliseconds, where it could be read. ``machine`` is in ``machine`` only; ``missing`` in
    ``gap`` and ``counted``: how many records are missing, in ``gap`` at least; None if that is not known.
    """

    event: Event
    at: str
    boot_id: str
    records: int
    bytes: int
    base: int
    state: ChainState | None = None
    detail: str = ""
    next_base: int | None = None
    registers: tuple[PcrIndex, ...] = ()
    tail: str = ""
    clock: int | None = None
    machine: Machine | None = None
    missing: int | None = None

    def to_document(self) -> dict[str, object]:
        """The entry as a JSON document."""
        document: dict[str, object] = {
            "event": self.event.value,
            "at": self.at,
            "boot_id": self.boot_id,
            "records": self.records,
            "bytes": self.bytes,
            "base": self.base,
        }
        if self.next_base is not None:
            document["next_base"] = self.next_base
        if self.clock is not None:
            document["clock"] = self.clock
        if self.missing is not None:
            document["missing"] = self.missing
        if self.machine is not None:
            document["machine"] = self.machine.to_document()
        if self.tail:
            document["tail"] = self.tail
        if self.registers:
            document["registers"] = list(self.registers)
        if self.state is not None:
            document["state"] = self.state.to_document()
        if self.detail:
            document["detail"] = self.detail
        return document


def entry_of(document: Mapping[str, object]) -> Entry:
    """The entry that a line's document says. Raises BadEntry."""
    texts = [document.get(name, "") for name in ("event", "at", "boot_id", "detail", "tail")]
    sizes = [document.get(name) for name in ("records", "bytes", "base")]
    later = [document.get(name, 0) for name in ("next_base", "clock", "missing")]
    if not all(isinstance(text, str) for text in texts) or texts[0] not in set(Event):
        raise BadEntry("it is of another version; use the imarium that wrote it, or a newer one")
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in (*sizes, *later)):
        raise BadEntry("its sizes are not numbers")
    event, at, boot_id, detail, tail = (str(text) for text in texts)
    records, size, base = (size for size in sizes if isinstance(size, int))
    next_base, clock, missing = (_optional(document, name) for name in ("next_base", "clock", "missing"))
    if max(base, next_base or 0) > size:
        raise BadEntry("the kernel's oldest record stands behind the log's end")
    try:
        state = ChainState.from_document(document["state"]) if "state" in document else None
        machine = Machine.from_document(document["machine"]) if "machine" in document else None
    except MalformedInput as error:
        raise BadEntry(str(error)) from error
    return Entry(
        Event(event),
        at,
        boot_id,
        records,
        size,
        base,
        state,
        detail,
        next_base,
        _registers(document),
        tail,
        clock,
        machine,
        missing,
    )


def _optional(document: Mapping[str, object], name: str) -> int | None:
    number = document.get(name)
    return number if isinstance(number, int) else None


def _registers(document: Mapping[str, object]) -> tuple[PcrIndex, ...]:
    numbers = document.get("registers", [])
    if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < LIST_PCRS for number in numbers):
        raise BadEntry("its registers are not numbers that a list can have")
    return tuple(map(PcrIndex, numbers))
