"""Custody of measurement lists: drained from the kernel, proved, kept, and read back."""

from imarium.custody.check import Finding, check_log, check_store
from imarium.custody.entry import Entry, Event
from imarium.custody.gap import Gap
from imarium.custody.keeper import Keeper
from imarium.custody.life import Machine, ReadMachine
from imarium.custody.log import Log
from imarium.custody.meta import LogMeta
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.custody.reader import Custody, TooMuchPending, Whole
from imarium.custody.repair import repair_log
from imarium.custody.result import KeepResult
from imarium.custody.retention import Retained, Retention, retain
from imarium.custody.schedule import Cause, Schedule
from imarium.custody.service import Service, no_events
from imarium.custody.source import HeldLists, Lists, Method, Source, WantedMethod
from imarium.custody.status import LastDrain, OnEvent, ServiceEvent, ServiceStatus, SourceState, SourceStatus
from imarium.custody.steps import KILL_VARIABLE, Hook, Step, kill_at, no_hook
from imarium.custody.store import Store, StoreBusy, default_store
from imarium.custody.view import View, WholeList
from imarium.custody.worker import SourceConfig

__all__ = [
    "KILL_VARIABLE",
    "Cause",
    "Custody",
    "Entry",
    "Event",
    "Finding",
    "Gap",
    "HeldLists",
    "Hook",
    "KeepResult",
    "Keeper",
    "LastDrain",
    "Lists",
    "Log",
    "LogMeta",
    "Machine",
    "Method",
    "OnEvent",
    "ReadMachine",
    "ReadRegisters",
    "Retained",
    "Retention",
    "Schedule",
    "Service",
    "ServiceEvent",
    "ServiceStatus",
    "Source",
    "SourceConfig",
    "SourceState",
    "SourceStatus",
    "Step",
    "Store",
    "StoreBusy",
    "TooMuchPending",
    "View",
    "WantedMethod",
    "Whole",
    "WholeList",
    "check_log",
    "check_store",
    "default_store",
    "kill_at",
    "no_events",
    "no_hook",
    "no_registers",
    "repair_log",
    "retain",
]
