"""The bridge: extends every record of a measurement list into a register that the kernel does not feed.

An extend cannot be undone, and it cannot be made in one step with a note of it. So the note only says from where to
look: how many records were extended is decided by reading the register and replaying the list from the note. The
register's value before the first extend is noted before that extend.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from imarium.chain import BOOT_AGGREGATE_NAMES, extend
from imarium.errors import MalformedRecord, RefusedOperation
from imarium.formats.records import Frame, Record
from imarium.formats.registers import PcrIndex
from imarium.formats.templates import template
from imarium.registers import ForeignExtend, Provider, Register, RegisterReadOnly
from imarium.rot.bridge_chain import Listing
from imarium.rot.bridge_state import TAIL, BridgeState, fingerprint

__all__ = ["NOTE_EVERY", "Bridge", "Notes", "OutOfStep", "PositionLost", "Progress"]

NOTE_EVERY = 64
"""How many records are extended at most between two notes."""


class OutOfStep(RefusedOperation):
    """The register does not have a value that the list leads to: someone else extended it, or it was reset."""

    code = "out_of_step"


class PositionLost(RefusedOperation):
    """The list does not have the last records that were extended: it was drained, or is another list."""

    code = "position_lost"


class Notes(Protocol):
    """Where a bridge writes down how far it has come; see :class:`imarium.rot.bridge_state.StateFile`."""

    def load(self) -> BridgeState | None:
        """What was noted last; None if nothing was."""

    def save(self, state: BridgeState) -> None:
        """Note it durably: a crash leaves the old note or this one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one look at the list came to.

    ``extended`` records were extended now; ``found`` had been extended, but were not noted. ``pending`` are left
    because it was told to stop. ``begun`` is set where the register's value was taken for its initial one.
    """

    state: BridgeState
    extended: int
    found: int
    pending: int
    begun: bool


_Steps = Iterator[tuple[Frame, bytes]]
"""Records that were not looked at yet, each with what it extends."""


def _never() -> bool:
    return False


class Bridge:
    """Feeds one register of a provider. The caller makes sure that it is the only bridge of that register.

    ``boot_id`` is that of the running kernel. With ``anew``, the first look takes the register's value for its initial
    one, whatever was noted, and extends the list from its first record. Raises RegisterReadOnly.
    """

    def __init__(
        self, provider: Provider, register: Register, notes: Notes, *, boot_id: str, anew: bool = False
    ) -> None:
        if register.hash is None or not register.extensible:
            raise RegisterReadOnly(f"{register.key} cannot be extended; choose a run-time register")
        self._algorithm = register.hash
        self._provider = provider
        self._register = register
        self._notes = notes
        self._boot_id = boot_id
        self._anew = anew
        self._noted: BridgeState | None = None

    def advance(self, listing: Listing, stop: Callable[[], bool] = _never) -> Progress:
        """Extend the records of ``listing`` that were not extended yet, until ``stop`` says so.

        Raises OutOfStep and PositionLost, then nothing more is extended; RegisterError, MissingComponent and
        MalformedRecord, then the next look finds out how far this one came; MalformedInput for a damaged note.
        """
        value = self._provider.read(self._register)
        if self._noted is None and not self._anew:
            self._noted = self._notes.load()
        state = self._noted
        begun = state is None or (state.boot_id != self._boot_id and value == state.initial)
        found = 0
        if begun or state is None:
            state, steps = self._begin(listing, value), listing.steps(self._algorithm)
        else:
            noted, steps = state.records, self._behind_note(state, listing)
            state = replace(self._ahead(state, steps, value), boot_id=self._boot_id)
            found = state.records - noted
        self._note(state)
        extended = pending = 0
        for frame, digest in steps:
            if pending or stop():
                pending += 1
                continue
            state = self._extend(state, frame, digest)
            extended += 1
            if extended % NOTE_EVERY == 0:
                self._note(state)
        self._note(state)
        return Progress(state, extended, found, pending, begun)

    def _begin(self, listing: Listing, value: bytes) -> BridgeState:
        _check_beginning(listing)
        state = BridgeState(self._boot_id, value, 0, value)
        self._note(state)
        self._anew = False
        return state

    def _behind_note(self, state: BridgeState, listing: Listing) -> _Steps:
        """What the listing has from the first record on that the note does not count."""
        if state.records == 0:
            _check_beginning(listing)
        steps = listing.steps(self._algorithm)
        value, count = state.initial, 0
        for _, digest in islice(steps, state.records):
            value = extend(self._algorithm, value, digest)
            count += 1
        if count == state.records and value == state.value:
            return steps
        return islice(listing.steps(self._algorithm), self._place_of(state, listing), None)

    def _place_of(self, state: BridgeState, listing: Listing) -> int:
        """How many records of a drained listing the note counts: up to the one place where its last ones stand."""
        last: deque[bytes] = deque(maxlen=TAIL)
        found: list[int] = []
        for count, frame in enumerate(listing.frames(), 1):
            last.append(fingerprint(frame))
            if count >= TAIL and tuple(last) == state.tail:
                found.append(count)
        if len(found) != 1:
            raise PositionLost(
                f"the {state.records} records extended into {self._register.key} are not in the list: it was drained "
                "(give --store with what was kept of it), or is another list (--begin extends it from its beginning)"
            )
        return found[0]

    def _ahead(self, noted: BridgeState, steps: _Steps, value: bytes) -> BridgeState:
        """The state behind the records that were extended without a note: as many as lead to the register's value."""
        state = noted
        while state.value != value:
            step = next(steps, None)
            if step is None:
                raise self._out_of_step(noted)
            frame, digest = step
            state = state.after([frame], extend(self._algorithm, state.value, digest))
        return state

    def _extend(self, state: BridgeState, frame: Frame, digest: bytes) -> BridgeState:
        expected = extend(self._algorithm, state.value, digest)
        if self._provider.read(self._register) != state.value:
            self._note(state)
            raise self._out_of_step(state)
        try:
            value = self._provider.extend(self._register, digest)
        except ForeignExtend as error:
            self._note(state)
            raise self._out_of_step(state) from error
        if value != expected:
            self._note(state)
            raise self._out_of_step(state)
        return state.after([frame], value)

    def _note(self, state: BridgeState) -> None:
        if state != self._noted:
            self._notes.save(state)
            self._noted = state

    def _out_of_step(self, state: BridgeState) -> OutOfStep:
        reset = " or was reset" if state.boot_id != self._boot_id else ""
        return OutOfStep(
            f"{self._register.key} was extended by someone else{reset} after record {state.records} of the list; "
            "nothing more is extended; find out who did, then --begin starts anew from its present value"
        )


def _check_beginning(listing: Listing) -> None:
    """Raise PositionLost unless the list begins with the log's first record, which is a boot aggregate."""
    first = None if listing.whole else next(listing.frames(), None)
    if first is None:
        return
    pcr, digest, name, data = first
    found = template(name)
    assert found is not None  # noqa: S101 - the framer has looked it up
    try:
        claimed = Record(0, 0, PcrIndex(pcr), digest, found, data, listing.layout).name
    except MalformedRecord:
        claimed = None
    if claimed not in BOOT_AGGREGATE_NAMES:
        raise PositionLost(
            "the list has no boot aggregate at its beginning: it was drained; give --store with what was kept of it"
        )
