"""Whether evidence goes on where an earlier appraisal ended: in the same life of the same TPM's registers."""

from imarium.chain import ChainState
from imarium.formats.evidence import ListPart
from imarium.verifier.result import Reason
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["check_identity", "check_passage", "check_position"]


def check_identity(known: LogIdentity, now: LogIdentity) -> list[Reason]:
    """As far as the quote tells: the state is of the same life of the same TPM's registers."""
    if known.ak != now.ak:
        return [Reason("state_other_ak", "the state was left by another AK; verify this machine with its own state")]
    if known.reset_count != now.reset_count:
        detail = (
            f"the TPM's reset count is {now.reset_count}, the state's is {known.reset_count}: the machine was reset "
            "since; ask for evidence from record 0 and verify it without the state"
        )
        return [Reason("state_reset", detail)]
    if now.clock < known.clock:
        detail = f"the TPM's clock is {now.clock} ms, the state has seen {known.clock} ms: the TPM went back in time"
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
                    f"after {known.records} records PCR {pcr} is not what an earlier appraisal proved: the state is of "
                    "another log, or this log was rewritten"
                )
                return [Reason("state_other_values", detail)]
    return []
