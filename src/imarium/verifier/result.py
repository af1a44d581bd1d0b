"""What an appraisal says."""

from dataclasses import dataclass
from typing import Literal

from imarium.verifier.reason import Reason
from imarium.verifier.state import VerifierState

__all__ = ["Reason", "Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """An attestation result.

    ``covered`` counts the records of the evidence that the quote proves and ``unverified`` those it does not, which
    are no good until a later quote covers them. ``state`` is where a later appraisal goes on; None unless the
    verdict is pass. ``begins`` is the name of the log's first record: ``boot_aggregate_late`` says that files used
    before late_initcall_sync were not measured. ``boot_aggregate`` says whether there was something attested to compare
    that record with; None where the evidence does not hold it or the verdict is fail.
    """

    reasons: tuple[Reason, ...]
    covered: int
    unverified: int
    state: VerifierState | None
    begins: str | None
    boot_aggregate: Literal["compared", "not_compared"] | None = None

    @property
    def passed(self) -> bool:
        """Whether the verdict is pass."""
        return not self.reasons

    def to_document(self) -> dict[str, object]:
        """The result as a JSON document."""
        return {
            "verdict": "pass" if self.passed else "fail",
            "reasons": [
                {"code": reason.code, "record": reason.record, "detail": reason.detail} for reason in self.reasons
            ],
            "covered": self.covered,
            "unverified": self.unverified,
            "begins": self.begins,
            "boot_aggregate": self.boot_aggregate,
            "state": self.state.to_document() if self.state else None,
        }
