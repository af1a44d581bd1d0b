"""The options of ``imarium keep``, and what their texts mean. Those with a default of their own have None here."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "CONFIGURATION",
    "AtRecords",
    "Check",
    "ClientAuthorities",
    "Configuration",
    "Interval",
    "Listen",
    "Method",
    "Once",
    "Quotes",
    "SourceTcti",
    "TlsCertificate",
    "TlsKey",
    "Wait",
]

CONFIGURATION = Path("/etc/imarium/keep.toml")
"""The configuration that --check looks at unless told."""

Method = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="prompt stages, keeps and deletes from the kernel; trim keeps, and deletes by number without staging; "
        "follow keeps and deletes nothing; auto takes prompt where it may be done, else follow [default: auto].",
    ),
]
Once = Annotated[bool, typer.Option("--once", help="Do it once and exit [default: go on until told to end].")]
Interval = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=1, help="Without --once: how often at least [default: 60].")
]
AtRecords = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Without --once: as soon as the kernel has N records [default: 1000]."),
]
Wait = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=0, help="How long to wait while others have the lists open [default: 5]."),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Take everything from this configuration.")
]
Check = Annotated[
    bool, typer.Option("--check", help=f"Only say what is wrong with --config [default: {CONFIGURATION}].")
]
SourceTcti = Annotated[
    str | None,
    typer.Option(
        "--tcti",
        metavar="NAME",
        help="The TPM that a source other than the kernel's extends "
        "[default: what IMARIUM_TCTI or TPM2TOOLS_TCTI names].",
    ),
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen",
        metavar="PLACE",
        help="Without --once: answer verifiers at unix:PATH, or tcp:HOST:PORT with TLS; may be repeated.",
    ),
]
TlsCertificate = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="For tcp: the certificate to show (PEM).")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="For tcp: its key (PEM).")]
ClientAuthorities = Annotated[
    Path | None,
    typer.Option("--client-ca", metavar="FILE", help="For tcp: who signs the certificates of clients (PEM)."),
]
Quotes = Annotated[bool, typer.Option("--quotes", help="With --listen: make evidence on request, with the TPM.")]
