"""Whether evidence goes on where an earlier appraisal ended: in the same life of the same registers."""

from imarium.chain import ChainState
from imarium.formats.evidence import ListPart
from imarium.verifier.attested import Life
from imarium.verifier.reason import Reason
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["check_identity", "check_passage", "check_position"]


def check_identity(known: LogIdentity, now: Life) -> list[Reason]:
    """As far as the quote tells: the state is of the same life of the same registers."""
    if known.kind != now.kind:
        detail = f"the state was left by a root of trust of kind {known.kind}, the evidence is of kind {now.kind}"
        return [Reason("state_other_kind", f"{detail}: verify it with its own state")]
    if known.root != now.root:
        return [now.stranger]
    if known.resets != now.resets:
        detail = (
            f"the reset count is {now.resets}, the state's is {known.resets}: the machine was reset since; ask for "
            "evidence from record 0 and verify it without the state"
        )
        return [Reason("state_reset", detail)]
    if now.clock < known.clock:
        detail = f"the root of trust's clock is {now.clock}, the state has seen {known.clock}: it went back in time"
        return [Reason("clock_rollback", detail)]
    return []


def check_position(part: ListPart, state: VerifierState | None) -> list[Reason]:
    """The evidence begins where the log does, or where the state ends."""
    first = part.first
    if first == 0 or (state is not None and state.chain.records == first):
        return []
    if state is None:
        detail = f"the evidence begins at record {first}: give the state of an earlier appraisal, or ask from record 0"
        return [Reason("state_missing", detail)]
    known = state.chain.records
    detail = f"the evidence begins at record {first}, the state ends before record {known}: ask from record {known}"
    return [Reason("state_position", detail)]


def check_passage(known: ChainState, reached: ChainState | None, prefix: int) -> list[Reason]:
    """For evidence from record 0: the log passes through the state, and the quote covers no less than it.

    ``reached`` is where the replay was after as many records as the state has, None if there are not as many;
    ``prefix`` is how many the quote covers.
    """
    if not known.records:
        return []
    if reached is None or prefix < known.records:
        detail = f"the quote covers {prefix} records, an earlier one covered {known.records}: records were taken away"
        return [Reason("records_removed", detail)]
    for pcr, banks in known.values.items():
        for bank in known.banks:
            if reached.value(pcr, bank) != banks[bank]:
                detail = (
                    f"after {known.records} records register {pcr} is not what an earlier appraisal proved: the state "
                    "is of another log, or this log was rewritten"
                )
                return [Reason("state_other_values", detail)]
    return []
