"""Hash chains of measurement registers, and the replay of a list over them."""

from imarium.chain.aggregate import aggregated_pcrs, pcr_aggregate
from imarium.chain.counters import CounterInterval, CounterReading, CounterTrail, explain_counters
from imarium.chain.match import Matches
from imarium.chain.registers import RegisterValues, extend, initial_value, violation_digest
from imarium.chain.replay import BOOT_AGGREGATE_NAMES, BootAggregate, Replay, ReplayResult, replay
from imarium.chain.state import ChainState

__all__ = [
    "BOOT_AGGREGATE_NAMES",
    "BootAggregate",
    "ChainState",
    "CounterInterval",
    "CounterReading",
    "CounterTrail",
    "Matches",
    "RegisterValues",
    "Replay",
    "ReplayResult",
    "aggregated_pcrs",
    "explain_counters",
    "extend",
    "initial_value",
    "pcr_aggregate",
    "replay",
    "violation_digest",
]
