"""How many records are missing before a log, by what its kernel says it has made: critical data measured at a kexec.

The count is of all records since IMA was initialised in this kernel, staged and deleted ones included, and not of the
record that has it.
"""

import re
from collections.abc import Iterable

from imarium.custody.log import Log
from imarium.errors import MalformedRecord
from imarium.formats.records import Record

__all__ = ["missing_by_count", "total_counted"]

_EVENTS = frozenset({b"kexec_load", b"kexec_execute"})
_TEMPLATE = "ima-buf"
_COUNT = re.compile(rb"(?:.*;)?ima_runtime_measurements_count=(0|[1-9][0-9]{0,18});.*", re.ASCII | re.DOTALL)


def total_counted(record: Record) -> int | None:
    """How many records the kernel says it had made before this one; None if the record does not say."""
    if record.template.name != _TEMPLATE:
        return None
    try:
        found = _COUNT.fullmatch(record.fields[2]) if record.name in _EVENTS else None
    except MalformedRecord:
        return None
    return int(found[1]) if found else None


def missing_by_count(before: Log, after: Log, records: Iterable[Record]) -> int | None:
    """How many records are missing between two logs of one kernel's life, by ``records`` of the second.

    None if none of them tells, or the first has records of an earlier kernel, which the count may be without.
    """
    if before.meta.start != "reset" or {before.meta.boot_id, before.boot_id} != {after.boot_id}:
        return None
    for record in records:
        total = total_counted(record)
        if total is not None:
            return max(0, total - before.records - record.number)
    return None
