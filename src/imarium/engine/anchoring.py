"""The list's records, extended into every root of trust: each register by its own count of them.

A record goes to the register that its number names where registers have numbers (PCRs), and to the default register of
a root of trust where they have names (``rtmr2``). A register that fails lags: it gets the records it missed first, as
long as they are still in the list; see :mod:`imarium.rot.anchors`.
"""

import logging
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imarium.chain import RegisterValues
from imarium.engine.measurement import Measurement
from imarium.errors import ImariumError
from imarium.formats import PcrIndex
from imarium.hashes import HashAlgorithm
from imarium.rot import Anchor, AnchorError, Anchors, Extending, RootOfTrust

__all__ = ["Anchored", "LaneStatus", "MeasurementOf"]

MeasurementOf = Callable[[int], Measurement | None]
"""The record of this number, or None where the list has it no more."""

_LOG = logging.getLogger("imarium.engine")
_RETRY_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """One register of one root of trust.

    ``records`` belong there, of which the last ``waiting`` are not in it. ``initial`` is its value before the first.
    ``lost`` says that a record it waits for was deleted from the list: it stays where it is for good.
    """

    root: str
    register: str
    pcr: PcrIndex | None
    records: int
    waiting: int
    lost: bool
    initial: Mapping[HashAlgorithm, bytes]
    error: AnchorError | None


class _Lane:
    """One register. ``waiting`` has the numbers of the list's records that are not in it, while it lags."""

    def __init__(self, root: RootOfTrust, pcr: PcrIndex | None, directory: Path, life: str) -> None:
        self.root = root
        self.pcr = pcr
        self.register = str(pcr) if pcr is not None else root.default_register
        self.key = f"{_identity(root)}.{self.register}"
        self._anchors = Anchors([Anchor(root, self.register)], directory, life=life)
        self._held = ExitStack()
        self._extending: Extending | None = None
        self._error: ImariumError | None = None
        self._open()
        self.count = self._extending.position if self._extending else 0
        self.waiting = array("Q")
        self.lost = False
        self._last_try = 0.0

    def extend(self, number: int, measurement: Measurement) -> AnchorError | None:
        """Extend the next record that belongs here, or have it wait; why, if the root of trust failed just now."""
        if self.waiting or not self._extend(measurement):
            first = not self.waiting
            self.adopt([number])
            self._last_try = time.monotonic()
            return self.status().error if first else None
        self.count += 1
        return None

    def adopt(self, numbers: Sequence[int]) -> None:
        """These records wait: their extends failed, or the register lags already."""
        self.waiting.extend(numbers)
        self.count += len(numbers)

    def catch_up(self, measurement_of: MeasurementOf, *, now: bool) -> None:
        """Try again with what waits; unless ``now``, once in a while only."""
        if self.lost or not self.waiting or not (now or time.monotonic() - self._last_try > _RETRY_EVERY):
            return
        self._last_try = time.monotonic()
        self._open()
        if self._extending is None:
            return
        done = self._extending.position - (self.count - len(self.waiting))  # extends that were broken off took place
        while done < len(self.waiting):
            measurement = measurement_of(self.waiting[done])
            if measurement is None:
                self.lost = True
                _LOG.error("%s waits for record %d, which was deleted: it stays behind", self.key, self.waiting[done])
                break
            if not self._extend(measurement):
                break
            done += 1
        self.waiting = self.waiting[max(done, 0) :]
        if not self.waiting:
            _LOG.info("%s has all records again", self.key)

    def status(self) -> LaneStatus:
        """Where it stands."""
        error: AnchorError | None = None
        initial: Mapping[HashAlgorithm, bytes] = {}
        if self._extending is not None:
            found = self._extending.status()[0]
            error, initial = found.error, found.initial
        if self._error is not None:
            error = AnchorError(self.count, f"{self.root.name}_error({self._error.code})", str(self._error))
        waiting = len(self.waiting)
        return LaneStatus(self.root.name, self.register, self.pcr, self.count, waiting, self.lost, initial, error)

    def close(self) -> None:
        """Let go of the register."""
        self._extending = None
        self._held.close()

    def _open(self) -> None:
        """Look where the register stands; what it holds decides whether an extend that was begun took place."""
        self.close()
        self._error = None
        try:
            self._extending = self._held.enter_context(self._anchors.ordered())
        except ImariumError as error:  # the place where positions are kept
            self._error = error

    def _extend(self, measurement: Measurement) -> bool:
        if self._extending is None:
            return False
        position = self._extending.position
        try:
            self._extending.extend(position, measurement.extended)
        except ImariumError as error:  # as above
            self._error = error
            return False
        return self._extending.position > position


def _identity(root: RootOfTrust) -> str:
    """What tells a root of trust from another of the same driver, in this engine and in the next."""
    try:
        return root.identity
    except ImariumError:  # it depends on a device that is not there
        return root.name


class Anchored:
    """Every root of trust of one engine. It does no locking of its own beside that of the registers.

    ``directory`` keeps positions; ``life`` tells this life of the registers from others. ``opened`` is told of each
    register when it is first used.
    """

    def __init__(
        self, roots: Sequence[RootOfTrust], directory: Path, life: str, *, opened: Callable[[LaneStatus], None]
    ) -> None:
        self._roots = tuple(roots)
        self._directory = directory
        self._life = life
        self._opened = opened
        self._lanes: dict[tuple[int, PcrIndex | None], _Lane] = {}

    def extend(self, number: int, measurement: Measurement) -> tuple[AnchorError, ...]:
        """Extend a record everywhere; the errors of those that failed just now."""
        errors = (lane.extend(number, measurement) for lane in self._lanes_of(measurement.pcr))
        return tuple(error for error in errors if error is not None)

    def catch_up(self, measurement_of: MeasurementOf, *, now: bool = False) -> None:
        """Give registers that lag what they missed; unless ``now``, once in a while only."""
        for lane in self._lanes.values():
            lane.catch_up(measurement_of, now=now)

    @property
    def lagging(self) -> bool:
        """Whether a register is without some record."""
        return any(lane.waiting for lane in self._lanes.values())

    def waiting(self) -> dict[str, int]:
        """How many of the last records each register that lags is without."""
        return {lane.key: len(lane.waiting) for lane in self._lanes.values() if lane.waiting}

    def adopt(self, waiting: Mapping[str, int], pcrs: Sequence[tuple[int, PcrIndex]]) -> None:
        """Go on after a life before this one: ``pcrs`` has number and register of each record that was restored."""
        for pcr in dict.fromkeys(pcr for _, pcr in pcrs):
            for lane in self._lanes_of(pcr):
                wanted = waiting.get(lane.key, 0)
                numbers = [number for number, of in pcrs if lane.pcr in {None, of}]
                if wanted and not lane.waiting:
                    lane.lost = wanted > len(numbers)
                    lane.adopt(numbers[-wanted:])

    def status(self) -> tuple[LaneStatus, ...]:
        """Where each register stands."""
        return tuple(lane.status() for lane in self._lanes.values())

    def start_values(self) -> RegisterValues:
        """What the numbered registers held before the first record, to replay from: of the first root that has each."""
        known = [each for each in self.status() if each.pcr is not None and each.initial]
        return {each.pcr: each.initial for each in reversed(known) if each.pcr is not None}

    def close(self) -> None:
        """Let go of the registers. The roots of trust stay open."""
        with ExitStack() as stack:
            for lane in self._lanes.values():
                stack.callback(lane.close)

    def _lanes_of(self, pcr: PcrIndex) -> list[_Lane]:
        lanes = []
        for index, root in enumerate(self._roots):
            numbered = root.default_register.isdigit()
            key = (index, pcr if numbered else None)
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = _Lane(root, key[1], self._directory, self._life)
                self._opened(lane.status())
            lanes.append(lane)
        return lanes
