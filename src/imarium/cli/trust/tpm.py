"""What is trusted of a TPM: the attestation key of the options that every kind has."""

from dataclasses import dataclass

from imarium.cli.trust.every_kind import EveryKind
from imarium.verifier import TpmTrust

__all__ = ["TpmOptions"]


@dataclass(frozen=True, slots=True)
class TpmOptions:
    """A TPM has no option of its own."""

    def trusted(self, every: EveryKind) -> tuple[TpmTrust, ...]:
        """What is trusted of this kind. Raises MalformedInput and MissingComponent."""
        return () if every.trusted_ak is None else (TpmTrust(every.trusted_ak),)
