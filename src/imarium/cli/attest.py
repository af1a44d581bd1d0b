"""``imarium attest``: make evidence of this machine's measurement list."""

import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from imarium.attester import make_evidence
from imarium.cli.documents import write_atomically
from imarium.cli.options import (
    Banks,
    Output,
    Registers,
    SourceDirectory,
    StoreDirectory,
    Tcti,
    hex_bytes,
    named_banks,
    register_numbers,
)
from imarium.cli.output import emit_json, progress_console
from imarium.custody import Custody, Whole, default_store
from imarium.custody.machine import boot_id, registers_of
from imarium.errors import UsageError
from imarium.formats.tpm import SignatureScheme
from imarium.rot import KeyKind, StoredKey, Tpm, holds_key, load_key, save_key
from imarium.securityfs import ImaDirectory

__all__ = ["attest"]

NONCE_SIZE = 32


def attest(
    nonce: Annotated[
        str | None,
        typer.Option("--nonce", metavar="HEX", help="The verifier's nonce [default: a random one, printed]."),
    ] = None,
    first: Annotated[int, typer.Option("--from", metavar="N", min=0, help="Send the records from number N on.")] = 0,
    output: Output = None,
    store: StoreDirectory = None,
    source: SourceDirectory = None,
    ak: Annotated[
        Path | None,
        typer.Option(
            "--ak", metavar="DIR", help="The attestation key, made if there is none [default: ak in the store]."
        ),
    ] = None,
    register: Registers = None,
    bank: Banks = None,
    tcti: Tcti = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document about the evidence; needs -o.")] = False,
) -> None:
    """Make evidence: a quote over a nonce, the register values and the records from N on, in one file.

    Quoted are PCR 0 to 10, every register the log uses, and those of --register. The records are the kept ones and
    those that are still in the kernel; those that were added after the quote count as unverified.
    """
    if output is None and (json or sys.stdout.isatty()):
        raise UsageError("evidence is binary; name a file with -o")
    challenge = secrets.token_bytes(NONCE_SIZE) if nonce is None else hex_bytes("--nonce", nonce)
    place = store or default_store()
    view = _view(place, source, tcti)
    with Tpm(tcti, _key(ak or place / "ak", tcti)) as tpm:
        evidence = make_evidence(
            tpm,
            view,
            nonce=challenge,
            first=first,
            banks=named_banks(bank),
            registers=register_numbers(register),
        )
    data = evidence.encode()
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        write_atomically(output, data)
    count = evidence.log.count
    if json:
        emit_json(
            {"nonce": challenge.hex(), "first": first, "records": count, "bytes": len(data), "output": str(output)}
        )
    else:
        progress_console().print(f"{count:,} records from number {first}, {len(data):,} bytes; nonce {challenge.hex()}")


def _view(place: Path, source: Path | None, tcti: str | None) -> Callable[[], Whole]:
    """What reads the log as it is when called: the kept records, and behind them those still in the kernel."""
    lists = ImaDirectory(source)
    return partial(Custody(place).whole, lists, boot_id=boot_id(), registers=registers_of(lists.path, tcti))


def _key(directory: Path, tcti: str | None) -> StoredKey:
    """The key in ``directory``, made there first if there is none."""
    if not holds_key(directory):
        with Tpm(tcti) as tpm:
            save_key(directory, tpm.create_ak(KeyKind(SignatureScheme.ECDSA)))
        progress_console().print(f"made an attestation key; verifiers need {directory / 'ak.pub'}", soft_wrap=True)
    return load_key(directory)
