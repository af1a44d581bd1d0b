"""When a source is drained. Pure: values in, a cause out."""

from dataclasses import dataclass
from enum import StrEnum

from imarium.errors import UsageError

__all__ = ["Cause", "Schedule", "pause_after"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Cause(StrEnum):
    """Why a drain is begun."""

    START = "start"
    INTERVAL = "interval"
    RECORDS = "records"
    BYTES = "bytes"
    REQUEST = "request"
    RETRY = "retry"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to drain: every ``interval`` seconds, and as soon as the kernel has ``records`` or about ``bytes`` more.

    The kernel's counter is read every ``poll`` seconds; nothing else is done meanwhile. The kernel does not say how
    many bytes it holds, so they are the number of records times the mean size of those kept. Raises UsageError for
    values that make no sense.
    """

    interval: float = 60.0
    records: int | None = 1000
    bytes: int | None = None
    poll: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.poll <= self.interval <= 86400 * 366):
            raise UsageError(
                f"a drain every {self.interval} s, with a look every {self.poll} s: give 0 < look <= drain"
            )
        if any(limit is not None and limit < 1 for limit in (self.records, self.bytes)):
            raise UsageError("numbers of records and bytes at which to drain are at least 1")

    def due(self, since: float, new_records: int, new_bytes: int) -> Cause | None:
        """Why to drain ``since`` seconds after the last drain, if so much has come since."""
        if self.records is not None and new_records >= self.records:
            return Cause.RECORDS
        if self.bytes is not None and new_bytes >= self.bytes:
            return Cause.BYTES
        return Cause.INTERVAL if since >= self.interval else None


def pause_after(failures: int, interval: float) -> float:
    """Seconds to wait after so many failures in a row, at least one: more each time, up to a minute or the interval."""
    return min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE, interval)
