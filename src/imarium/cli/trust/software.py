"""What is accepted of a software root of trust."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import read_bytes
from imarium.cli.trust.every_kind import EveryKind
from imarium.verifier import SoftwareTrust

__all__ = ["SoftwareOptions"]


@dataclass(frozen=True, slots=True)
class SoftwareOptions:
    """The key of a software root of trust, which is accepted where it is named and nowhere else."""

    allow_software: Annotated[
        Path | None,
        typer.Option(
            "--allow-software", metavar="FILE", help="Accept a software root with this key: it proves nothing."
        ),
    ] = None

    def trusted(self, every: EveryKind) -> tuple[SoftwareTrust, ...]:
        """What is accepted of this kind. Raises UsageError and MissingComponent."""
        if self.allow_software is None:
            return ()
        key = read_bytes(self.allow_software)
        names = {column: f"rtmr{register}" for column, register in every.anchoring.every_column().items()}
        return (SoftwareTrust(key, names) if names else SoftwareTrust(key),)
