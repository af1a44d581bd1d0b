"""IMA in user space: what is executed and read is measured, listed and extended as the kernel does it."""

from imarium.engine.measurement import Measurement, list_layout
from imarium.engine.queue import Anchoring, Counts, MeasurementQueue, QueueError
from imarium.engine.records import RecordList

__all__ = [
    "Anchoring",
    "Counts",
    "Measurement",
    "MeasurementQueue",
    "QueueError",
    "RecordList",
    "list_layout",
]
