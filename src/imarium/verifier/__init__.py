"""The verifier: appraises evidence with nothing but what it trusts. It never touches a device or a kernel."""

from imarium.verifier.appraise import appraise
from imarium.verifier.certificates import CertifiedKey
from imarium.verifier.challenge import Challenge, check_endorsement, make_challenge
from imarium.verifier.kinds import Trust
from imarium.verifier.reason import Reason
from imarium.verifier.result import Result
from imarium.verifier.root_cca import CcaTrust, VirtccaTrust
from imarium.verifier.root_snp import SnpTrust
from imarium.verifier.root_software import SoftwareTrust
from imarium.verifier.root_tdx import TdxTrust
from imarium.verifier.root_tpm import TpmTrust
from imarium.verifier.state import LogIdentity, VerifierState

__all__ = [
    "CcaTrust",
    "CertifiedKey",
    "Challenge",
    "LogIdentity",
    "Reason",
    "Result",
    "SnpTrust",
    "SoftwareTrust",
    "TdxTrust",
    "TpmTrust",
    "Trust",
    "VerifierState",
    "VirtccaTrust",
    "appraise",
    "check_endorsement",
    "make_challenge",
]
