"""Hash chains of measurement registers, and the replay of a list over them."""

from imarium.chain.match import Matches
from imarium.chain.registers import RegisterValues, extend, initial_value, violation_digest
from imarium.chain.replay import BOOT_AGGREGATE_NAMES, BootAggregate, Replay, ReplayResult, replay
from imarium.chain.state import ChainState

__all__ = [
    "BOOT_AGGREGATE_NAMES",
    "BootAggregate",
    "ChainState",
    "Matches",
    "RegisterValues",
    "Replay",
    "ReplayResult",
    "extend",
    "initial_value",
    "replay",
    "violation_digest",
]
