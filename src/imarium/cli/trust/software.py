"""What is accepted of a software root of trust."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from imarium.cli.documents import read_bytes
from imarium.cli.trust.every_kind import EveryKind
from imarium.errors import MalformedInput
from imarium.verifier import SoftwareTrust

__all__ = ["SoftwareOptions"]


@dataclass(frozen=True, slots=True)
class SoftwareOptions:
    """The key of a software root of trust, which is accepted where it is named and nowhere else."""

    allow_software: Annotated[
        Path | None,
        typer.Option(
            "--allow-software",
            metavar="FILE",
            help="Accept a software root with this public key, the file key that imarium rot quote writes: it proves "
            "nothing.",
        ),
    ] = None

    def trusted(self, every: EveryKind) -> tuple[SoftwareTrust, ...]:
        """What is accepted of this kind. Raises UsageError, MalformedInput and MissingComponent."""
        if self.allow_software is None:
            return ()
        key = _key(self.allow_software)
        names = {column: f"rtmr{register}" for column, register in every.anchoring.every_column().items()}
        return (SoftwareTrust(key, names) if names else SoftwareTrust(key),)


def _key(path: Path) -> bytes:
    """A software root's public key, as its evidence has it. Raises MalformedInput for what is none."""
    data = read_bytes(path)
    expected = "an EC P-256 public key in DER: the file key that imarium rot quote --rot software:FILE -o DIR writes"
    try:
        key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput(str(path), offset=0, expected=expected, found="something else") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedInput(str(path), offset=0, expected=expected, found="another kind of key")
    return data
