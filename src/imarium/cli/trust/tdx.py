"""What is trusted of Intel TDX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import read_text
from imarium.cli.options import hex_bytes
from imarium.cli.trust.every_kind import EveryKind, read_root
from imarium.errors import UsageError
from imarium.formats.registers import PcrIndex
from imarium.formats.tdx import IMA_RTMR, RtmrIndex
from imarium.verifier import TdxTrust
from imarium.verifier.tdx import UP_TO_DATE

__all__ = ["TdxOptions"]


@dataclass(frozen=True, slots=True)
class TdxOptions:
    """Intel's collateral, and a root certificate where it is not Intel's own."""

    tdx_collateral: Annotated[
        Path | None,
        typer.Option("--tdx-collateral", metavar="FILE", help="TDX: Intel's collateral, JSON in the form of dcap-qvl."),
    ] = None
    tdx_root: Annotated[
        Path | None, typer.Option("--tdx-root", metavar="FILE", help="TDX: a root certificate [default: Intel's].")
    ] = None
    tdx_accept: Annotated[
        list[str] | None,
        typer.Option("--tdx-accept", metavar="STATUS", help="TDX: a TCB status to accept [default: UpToDate]."),
    ] = None
    tdx_mrtd: Annotated[
        list[str] | None,
        typer.Option(
            "--tdx-mrtd", metavar="HEX", help="TDX: an MRTD you know; may be repeated [default: any TD passes]."
        ),
    ] = None

    def trusted(self, every: EveryKind) -> tuple[TdxTrust, ...]:
        """What is trusted of this kind. Raises UsageError, MalformedInput and MissingComponent."""
        if self.tdx_collateral is None:
            if self.tdx_root is not None or self.tdx_accept or self.tdx_mrtd:
                raise UsageError("--tdx-root, --tdx-accept and --tdx-mrtd go with --tdx-collateral")
            return ()
        anchoring = every.anchoring
        columns = {column: RtmrIndex(register) for column, register in anchoring.every_column().items()}
        trust = TdxTrust(
            collateral=read_text(self.tdx_collateral),
            now=every.now,
            root_ca=None if self.tdx_root is None else read_root(self.tdx_root),
            accepted=frozenset(self.tdx_accept or ()) or UP_TO_DATE,
            columns=columns or {PcrIndex(IMA_RTMR): IMA_RTMR},
            initial={RtmrIndex(register): value for register, value in anchoring.initial.items()},
            bridged=anchoring.bridged,
            measurements=frozenset(hex_bytes("--tdx-mrtd", text) for text in self.tdx_mrtd or ()),
        )
        return (trust,)
