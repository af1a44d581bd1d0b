"""The verifier: appraises evidence with nothing but what it trusts. It never touches a device or a kernel."""

from imarium.verifier.appraise import appraise
from imarium.verifier.result import Reason, Result
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = ["LogIdentity", "Reason", "Result", "VerifierState", "appraise"]
