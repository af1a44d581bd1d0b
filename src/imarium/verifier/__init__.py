"""The verifier: appraises evidence with nothing but what it trusts. It never touches a device or a kernel."""

from imarium.verifier.appraise import appraise
from imarium.verifier.kinds import Trust
from imarium.verifier.reason import Reason
from imarium.verifier.result import Result
from imarium.verifier.root_cca import CcaTrust, VirtccaTrust
from imarium.verifier.root_software import SoftwareTrust
from imarium.verifier.root_tdx import TdxTrust
from imarium.verifier.root_tpm import TpmTrust
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = [
    "CcaTrust",
    "LogIdentity",
    "Reason",
    "Result",
    "SoftwareTrust",
    "TdxTrust",
    "TpmTrust",
    "Trust",
    "VerifierState",
    "VirtccaTrust",
    "appraise",
]
