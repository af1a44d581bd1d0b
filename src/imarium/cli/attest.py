"""``imarium attest``: make evidence of this machine's measurement list."""

import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from imarium.attester import make_evidence
from imarium.cli.documents import naming, read_bytes, write_atomically
from imarium.cli.options import (
    Banks,
    Output,
    RegisterNames,
    Rot,
    SourceDirectory,
    StoreDirectory,
    Tcti,
    named_banks,
    nonce_bytes,
)
from imarium.cli.output import emit_json, progress_console
from imarium.cli.roots import prepare_quotes, tell_caveat
from imarium.custody import Custody, Whole, default_store
from imarium.custody.machine import boot_id, registers_of
from imarium.errors import UsageError
from imarium.rot import KeyedQuotes, RootOfTrust, default_root, open_root
from imarium.securityfs import ImaDirectory

__all__ = ["attest"]

NONCE_SIZE = 32


def attest(
    nonce: Annotated[
        str | None,
        typer.Option("--nonce", metavar="HEX", help="The verifier's nonce [default: a random one, printed]."),
    ] = None,
    challenge: Annotated[
        Path | None,
        typer.Option(
            "--challenge", metavar="FILE", help="The verifier's challenge to this TPM and key, in place of a nonce."
        ),
    ] = None,
    first: Annotated[int, typer.Option("--from", metavar="N", min=0, help="Send the records from number N on.")] = 0,
    output: Output = None,
    store: StoreDirectory = None,
    source: SourceDirectory = None,
    ak: Annotated[
        Path | None,
        typer.Option(
            "--ak", metavar="DIR", help="A TPM's attestation key, made if there is none [default: ak in the store]."
        ),
    ] = None,
    register: RegisterNames = None,
    bank: Banks = None,
    rot: Rot = None,
    tcti: Tcti = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document about the evidence; needs -o.")] = False,
) -> None:
    """Make evidence: a quote over a nonce, the register values and the records from N on, in one file.

    The quote is the TPM's, or that of the root of trust --rot names. Of a TPM, PCR 0 to 10, every register the log
    uses, and those of --register are quoted. The records are the kept ones and those that are still in the kernel;
    those that were added after the quote count as unverified.
    """
    if output is None and (json or sys.stdout.isatty()):
        raise UsageError("evidence is binary; name a file with -o")
    if nonce is not None and challenge is not None:
        raise UsageError("a challenge holds the nonce; give --nonce or --challenge")
    given = secrets.token_bytes(NONCE_SIZE) if nonce is None else nonce_bytes(nonce)
    place = store or default_store()
    view = _view(place, source, tcti if rot is None else None)
    with default_root(tcti) if rot is None else open_root(rot) as root:
        keyless = isinstance(root, KeyedQuotes) and not root.has_key
        prepare_quotes(root, ak or (place / "ak" if keyless else None), named_banks(bank))
        bound = given if challenge is None else _answer(root, challenge)
        evidence = make_evidence(root, view, nonce=bound, first=first, registers=register or ())
        tell_caveat(root)
    data = evidence.encode()
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        write_atomically(output, data)
    count = evidence.log.count
    if json:
        emit_json({"nonce": bound.hex(), "first": first, "records": count, "bytes": len(data), "output": str(output)})
    else:
        progress_console().print(f"{count:,} records from number {first}, {len(data):,} bytes; nonce {bound.hex()}")


def _view(place: Path, source: Path | None, tcti: str | None) -> Callable[[], Whole]:
    """What reads the log as it is when called: the kept records, and behind them those still in the kernel."""
    lists = ImaDirectory(source)
    return partial(Custody(place).whole, lists, boot_id=boot_id(), registers=registers_of(lists.path, tcti))


def _answer(root: RootOfTrust, challenge: Path) -> bytes:
    """The nonce in a challenge."""
    if not isinstance(root, KeyedQuotes):
        raise UsageError(f"a challenge is for a TPM and its attestation key, {root.name} has none; give --nonce")
    with naming(challenge):
        return root.open_challenge(read_bytes(challenge))
