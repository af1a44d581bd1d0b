"""IMA in user space: what is executed and read is measured, listed and extended as the kernel does it."""

from imarium.engine.facts import EventFacts, FileFacts, FileSystem, Subject
from imarium.engine.hooks import Access, Hook
from imarium.engine.policy import BUILTIN_POLICIES, Action, Policy, builtin_policy
from imarium.engine.policy_errors import PolicyBusy, PolicyRefused
from imarium.engine.policy_file import PolicyFile, PolicyUpdate
from imarium.engine.policy_parse import parse_rule
from imarium.engine.policy_rule import Comparison, IdTest, Rule, Verb

__all__ = [
    "BUILTIN_POLICIES",
    "Access",
    "Action",
    "Comparison",
    "EventFacts",
    "FileFacts",
    "FileSystem",
    "Hook",
    "IdTest",
    "Policy",
    "PolicyBusy",
    "PolicyFile",
    "PolicyRefused",
    "PolicyUpdate",
    "Rule",
    "Subject",
    "Verb",
    "builtin_policy",
    "parse_rule",
]
