"""The measurement queue: current and staged records, and what the kernel answers to each command in every state.

Everything happens under one lock. A measurement is looked up in the hash table, appended, then extended, so that the
records are in the list in the order of their extends, and a failed extend leaves the record in the list (the kernel's
``ima_add_template_entry``). Staging exchanges two references: its time does not depend on how many records there are.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imarium.engine.digests import DigestTable
from imarium.engine.measurement import Measurement
from imarium.engine.records import RecordList
from imarium.errors import ImariumError
from imarium.formats import ByteOrder
from imarium.hashes import SHA256, HashAlgorithm

__all__ = ["Anchoring", "Counts", "MeasurementQueue", "QueueError"]

Anchoring = Callable[[int, Measurement], None]
"""Extends the registers with the measurement of this number. What a device does is its own to report."""


class QueueError(ImariumError):
    """The queue refused a command or a measurement; ``number`` is the errno the kernel answers with."""

    code = "queue"

    def __init__(self, number: int, reason: str) -> None:
        self.number = number
        super().__init__(f"{reason} ({errno.errorcode.get(number, number)}: {os.strerror(number)})")


@dataclass(frozen=True, slots=True)
class Counts:
    """Records in the current and in the staged list, and all since the start (``full``), deleted ones included."""

    current: int
    staged: int
    full: int


def _nowhere(_number: int, _measurement: Measurement) -> None:
    """Extend nothing: the bypass of an engine without a root of trust."""


class MeasurementQueue:
    """The records of one life of the engine, numbered from ``first`` on.

    ``hash_algorithm`` is that of the hash table (``ima_hash``). With ``flush_htable`` deleting the staged records
    empties the table, and records cannot be deleted by number. ``anchor`` is called under the lock for each record
    that was appended, ``staging`` before records are staged, when nothing is in the way of it: it may add a last one.
    """

    def __init__(
        self,
        *,
        hash_algorithm: HashAlgorithm = SHA256,
        flush_htable: bool = False,
        anchor: Anchoring | None = None,
        staging: Callable[[], None] | None = None,
        byte_order: ByteOrder = "little",
        first: int = 0,
    ) -> None:
        self.lock = threading.RLock()
        self.hash_algorithm = hash_algorithm
        self.flush_htable = flush_htable
        self.byte_order: ByteOrder = byte_order
        self._anchor = anchor or _nowhere
        self._staging = staging
        self._table = DigestTable()
        self._current = RecordList(byte_order, first)
        self._staged = RecordList(byte_order, first)
        self._full = 0
        self._full_size = 0
        self._violations = 0
        self._suspended = False

    @property
    def current(self) -> RecordList:
        """The current records; hold :attr:`lock` while looking into them, and ask anew after it was let go."""
        return self._current

    @property
    def staged(self) -> RecordList:
        """The staged records, as :attr:`current`."""
        return self._staged

    @property
    def counts(self) -> Counts:
        """The three counters, as of one moment."""
        with self.lock:
            return Counts(len(self._current), len(self._staged), self._full)

    @property
    def violations(self) -> int:
        """How many violations there were, recorded or not."""
        return self._violations

    @property
    def full_size(self) -> int:
        """What the kernel counts in bytes for all records since the start, deleted ones included."""
        return self._full_size

    @property
    def suspended(self) -> bool:
        """Whether measuring has ended for good, for the next engine to go on."""
        return self._suspended

    def add(self, measurement: Measurement) -> bool:
        """Append a measurement and extend it; False where it was made before. Violations are never dropped.

        Raises QueueError (ENODEV) when suspended.
        """
        with self.lock:
            self._violations += measurement.violation
            if self._suspended:
                raise QueueError(errno.ENODEV, "measuring is suspended; the next engine goes on")
            if not measurement.violation and not self._table.add(
                measurement.digest(self.hash_algorithm), measurement.pcr
            ):
                return False
            number = self._append(measurement)
            self._anchor(number, measurement)
            return True

    def restore(self, measurements: Iterable[Measurement]) -> int:
        """Take over the records of a life before this one; how many. Only a queue without records can.

        They are neither put in the hash table nor extended. Raises QueueError (EEXIST), and what ``measurements``
        raises; the queue is then not to be used.
        """
        with self.lock:
            if self._full:
                raise QueueError(errno.EEXIST, "records can be restored only before the first measurement")
            for measurement in measurements:
                self._append(measurement)
            return self._full

    def stage_all(self) -> None:
        """Move all current records to the staged list, which must be empty.

        Raises QueueError: EEXIST something is staged, ENOENT nothing to stage, EACCES suspended, in this order.
        """
        with self.lock:
            if self._staged:
                raise QueueError(errno.EEXIST, "records are staged already; delete those first")
            if not self._current:
                raise QueueError(errno.ENOENT, "there are no records to stage")
            if self._suspended:
                raise QueueError(errno.EACCES, "measuring is suspended; the records go on to the next engine")
            if self._staging is not None:
                self._staging()
            self._staged = self._current
            self._current = RecordList(self.byte_order, self._staged.end)

    def delete_staged(self) -> None:
        """Delete the staged records. Raises QueueError: ENOENT nothing staged, ESTALE suspended, in this order."""
        with self.lock:
            if not self._staged:
                raise QueueError(errno.ENOENT, "nothing is staged")
            self._check_not_carried_over()
            self._staged = RecordList(self.byte_order, self._staged.end)
            if self.flush_htable:
                self._table.clear()

    def delete(self, records: int) -> None:
        """Delete the ``records`` oldest current records.

        Raises QueueError: EINVAL where ``records`` is not positive or the hash table is flushed, ENOENT fewer are
        there, and then none is deleted, ESTALE suspended, in this order.
        """
        with self.lock:
            if records <= 0 or self.flush_htable:
                reason = "the hash table is flushed" if self.flush_htable else "give a number above zero"
                raise QueueError(errno.EINVAL, f"records cannot be deleted by this number: {reason}")
            if records > len(self._current):
                raise QueueError(errno.ENOENT, "fewer records are there, so none was deleted")
            self._check_not_carried_over()
            self._current.delete(records)

    def suspend(self) -> None:
        """End measuring for good. Twice does nothing more."""
        with self.lock:
            self._suspended = True

    def _check_not_carried_over(self) -> None:
        if self._suspended:
            raise QueueError(errno.ESTALE, "measuring is suspended; the records go on to the next engine")

    def _append(self, measurement: Measurement) -> int:
        self._full += 1
        self._full_size += measurement.runtime_size
        return self._current.append(measurement)
