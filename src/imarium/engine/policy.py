"""A policy: rules in order, of which the first that fits an event decides."""

from collections.abc import Iterable
from dataclasses import dataclass

from imarium.engine.facts import EventFacts
from imarium.engine.hooks import Access, Hook
from imarium.engine.policy_parse import parse_rule
from imarium.engine.policy_rule import Rule, Verb
from imarium.errors import UsageError
from imarium.formats import IMA_PCR, PcrIndex

__all__ = ["BUILTIN_POLICIES", "Action", "Policy", "builtin_policy"]

_TCB = b"""\
dont_measure fsmagic=0x9fa0
dont_measure fsmagic=0x62656572
dont_measure fsmagic=0x64626720
dont_measure func=FILE_CHECK fsmagic=0x1021994
dont_measure fsmagic=0x1cd1
dont_measure fsmagic=0x42494e4d
dont_measure fsmagic=0x73636673
dont_measure fsmagic=0xf97cff8c
dont_measure fsmagic=0x43415d53
dont_measure fsmagic=0x27e0eb
dont_measure fsmagic=0x63677270
dont_measure fsmagic=0x6e736673
dont_measure fsmagic=0xde5e81e4
dont_measure fsmagic=0x62656570
measure func=MMAP_CHECK mask=MAY_EXEC
measure func=BPRM_CHECK mask=MAY_EXEC
measure func=FILE_CHECK mask=^MAY_READ euid=0
measure func=FILE_CHECK mask=^MAY_READ uid=0
measure func=MODULE_CHECK
measure func=FIRMWARE_CHECK
measure func=POLICY_CHECK
"""

BUILTIN_POLICIES: dict[str, bytes] = {"tcb": _TCB, "critical_data": b"measure func=CRITICAL_DATA\n"}
"""The rules of the kernel's ``ima_policy=`` names that are about measuring."""


@dataclass(frozen=True, slots=True)
class Action:
    """What to do about an event that a rule says to measure.

    ``template`` is None where the rule leaves it to the engine. ``verity`` asks for the digest of fs-verity.
    """

    pcr: PcrIndex = IMA_PCR
    template: str | None = None
    verity: bool = False


class Policy:
    """Rules that do not change. Matching is a function of the rules and the event alone."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._relevant: dict[tuple[Hook, Access], tuple[Rule, ...]] = {}

    def match(self, event: EventFacts) -> Action | None:
        """What to do about an event: the first rule that fits decides; None is not to measure it."""
        for rule in self.relevant(event.hook, event.access):
            if rule.fits(event):
                return _action(rule) if rule.verb is Verb.MEASURE else None
        return None

    def relevant(self, hook: Hook, access: Access) -> tuple[Rule, ...]:
        """The rules that can decide about such an event; none where nothing such is measured at all."""
        key = (hook, access)
        found = self._relevant.get(key)
        if found is None:
            found = tuple(rule for rule in self.rules if rule.concerns(hook, access))
            while found and found[-1].verb is Verb.DONT_MEASURE:
                found = found[:-1]
            self._relevant[key] = found
        return found

    def text(self) -> bytes:
        """The rules as the kernel's ``policy`` file shows them."""
        return b"".join(rule.text() + b"\n" for rule in self.rules)


def _action(rule: Rule) -> Action:
    return Action(IMA_PCR if rule.pcr is None else rule.pcr, rule.template, rule.verity)


def builtin_policy(names: Iterable[str]) -> Policy:
    """The policy of the kernel's ``ima_policy=`` names, in the kernel's order. Raises UsageError on another name."""
    wanted = set(names)
    if unknown := sorted(wanted - BUILTIN_POLICIES.keys()):
        raise UsageError(f"unknown policy {unknown[0]!r}; built in are {', '.join(BUILTIN_POLICIES)}")
    lines = b"".join(text for name, text in BUILTIN_POLICIES.items() if name in wanted).splitlines()
    return Policy(parse_rule(line) for line in lines)
