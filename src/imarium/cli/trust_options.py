"""Options that say what ``imarium verify`` trusts of roots of trust that are no TPM."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AllowSoftware",
    "Bridged",
    "CcaPlatformKey",
    "Column",
    "Initial",
    "TdxAccept",
    "TdxCollateral",
    "TdxRoot",
    "Time",
    "VirtccaPlatformKey",
    "VirtccaRealmKey",
]

TdxCollateral = Annotated[
    Path | None,
    typer.Option("--tdx-collateral", metavar="FILE", help="TDX: Intel's collateral, JSON in the form of dcap-qvl."),
]
TdxRoot = Annotated[
    Path | None, typer.Option("--tdx-root", metavar="FILE", help="TDX: a root certificate in DER [default: Intel's].")
]
TdxAccept = Annotated[
    list[str] | None,
    typer.Option("--tdx-accept", metavar="STATUS", help="TDX: a TCB status to accept [default: UpToDate]."),
]
Time = Annotated[
    int | None, typer.Option("--time", metavar="SECONDS", help="TDX: appraise as of this Unix time [default: now].")
]
CcaPlatformKey = Annotated[
    Path | None, typer.Option("--cca-platform-key", metavar="FILE", help="CCA: the platform's key (CPAK).")
]
VirtccaPlatformKey = Annotated[
    Path | None, typer.Option("--virtcca-platform-key", metavar="FILE", help="VirtCCA: the platform's key (AIK).")
]
VirtccaRealmKey = Annotated[
    Path | None,
    typer.Option("--virtcca-realm-key", metavar="FILE", help="Old VirtCCA without platform token: the VM's own key."),
]
AllowSoftware = Annotated[
    Path | None,
    typer.Option("--allow-software", metavar="FILE", help="Accept a software root with this key: it proves nothing."),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="N=REGISTER",
        help="Records with N in the list's register column are in this RTMR or slot; all=REGISTER for the rest.",
    ),
]
Initial = Annotated[
    list[str] | None,
    typer.Option("--initial", metavar="REGISTER=HEX", help="What an RTMR or slot held before the first record."),
]
Bridged = Annotated[
    bool, typer.Option("--bridged", help="A bridge extended the list: its boot_aggregate is not compared.")
]
