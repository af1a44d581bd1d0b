"""What is trusted of a TPM: the attestation key of the common options."""

from dataclasses import dataclass

from imarium.cli.trust.common import Common
from imarium.verifier import TpmTrust

__all__ = ["TpmOptions"]


@dataclass(frozen=True, slots=True)
class TpmOptions:
    """A TPM has no option of its own."""

    def trusted(self, common: Common) -> tuple[TpmTrust, ...]:
        """What is trusted of this kind. Raises MalformedInput and MissingComponent."""
        return () if common.trusted_ak is None else (TpmTrust(common.trusted_ak),)
