"""IMA in user space: what is executed and read is measured, listed and extended as the kernel does it."""

from imarium.engine.anchoring import LaneStatus
from imarium.engine.control import CONTROL, Answer, ask, is_running, serving
from imarium.engine.engine import START_STATE, Engine, EngineOptions, EngineStatus
from imarium.engine.facts import EventFacts, FileFacts, FileSystem, Subject
from imarium.engine.file_measurer import FileMeasurer
from imarium.engine.file_tree import regular_files
from imarium.engine.hooks import Access, Hook
from imarium.engine.life import wait_until_ended
from imarium.engine.measurement import Measurement, list_layout
from imarium.engine.policy import BUILTIN_POLICIES, Action, Policy, builtin_policy
from imarium.engine.policy_errors import PolicyBusy, PolicyRefused
from imarium.engine.policy_file import PolicyFile, PolicyUpdate
from imarium.engine.policy_parse import parse_rule
from imarium.engine.policy_rule import Comparison, IdTest, Rule, Verb
from imarium.engine.problems import Problem, ProblemKind
from imarium.engine.queue import Anchoring, Counts, MeasurementQueue, QueueError
from imarium.engine.records import RecordList
from imarium.engine.template_data import Event, event_data, find_template
from imarium.engine.watch import Watch, Watcher, WatchOptions

__all__ = [
    "BUILTIN_POLICIES",
    "CONTROL",
    "START_STATE",
    "Access",
    "Action",
    "Anchoring",
    "Answer",
    "Comparison",
    "Counts",
    "Engine",
    "EngineOptions",
    "EngineStatus",
    "Event",
    "EventFacts",
    "FileFacts",
    "FileMeasurer",
    "FileSystem",
    "Hook",
    "IdTest",
    "LaneStatus",
    "Measurement",
    "MeasurementQueue",
    "Policy",
    "PolicyBusy",
    "PolicyFile",
    "PolicyRefused",
    "PolicyUpdate",
    "Problem",
    "ProblemKind",
    "QueueError",
    "RecordList",
    "Rule",
    "Subject",
    "Verb",
    "Watch",
    "WatchOptions",
    "Watcher",
    "ask",
    "builtin_policy",
    "event_data",
    "find_template",
    "is_running",
    "list_layout",
    "parse_rule",
    "regular_files",
    "serving",
    "wait_until_ended",
]
