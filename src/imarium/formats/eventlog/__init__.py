"""Firmware's event logs: bytes to values, bounded and total, with no I/O.

The TPM's log and the CC log have one format and count different registers; each kind has its own index type.
A log is a claim until its replay gives the values of registers that were attested.
"""

from imarium.formats.eventlog.applications import (
    AAEL_TAG,
    ApplicationEvent,
    TaggedEvent,
    application_events,
    parse_tagged_event,
)
from imarium.formats.eventlog.ccel import CcelTable, CcType, parse_ccel_table
from imarium.formats.eventlog.kinds import (
    CC_LOG,
    EV_EVENT_TAG,
    EV_NO_ACTION,
    EV_SEPARATOR,
    TPM_LOG,
    LogKind,
    event_type_name,
)
from imarium.formats.eventlog.log import MAX_LOG_SIZE, Event, EventLog, parse_event_log
from imarium.formats.eventlog.replay import replay_events, rtmr_values

__all__ = [
    "AAEL_TAG",
    "CC_LOG",
    "EV_EVENT_TAG",
    "EV_NO_ACTION",
    "EV_SEPARATOR",
    "MAX_LOG_SIZE",
    "TPM_LOG",
    "ApplicationEvent",
    "CcType",
    "CcelTable",
    "Event",
    "EventLog",
    "LogKind",
    "TaggedEvent",
    "application_events",
    "event_type_name",
    "parse_ccel_table",
    "parse_event_log",
    "parse_tagged_event",
    "replay_events",
    "rtmr_values",
]
