"""``imarium verify``: appraise evidence offline."""

from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import is_there, read_bytes, read_json, write_json
from imarium.cli.options import Json, hex_bytes, register_numbers
from imarium.cli.output import console, emit_json
from imarium.errors import ImariumError, MalformedInput, UsageError
from imarium.formats.evidence import MAX_EVIDENCE
from imarium.formats.tpm import Public, parse_public, parse_public_area
from imarium.verifier import Result, VerifierState, appraise

__all__ = ["verify"]

_FORM_CODES = frozenset({"evidence_truncated", "evidence_trailing", "evidence_malformed", "record_malformed"})


class UnreadableEvidence(ImariumError):
    """Evidence that fails by its form: malformed input rather than a negative verdict on good form."""

    code = "unreadable_evidence"
    exit_status = MalformedInput.exit_status


def verify(
    evidence: Annotated[Path, typer.Argument(metavar="EVIDENCE", help="The file imarium attest made.")],
    nonce: Annotated[str, typer.Option("--nonce", metavar="HEX", help="The nonce the evidence was asked for with.")],
    ak: Annotated[
        Path | None, typer.Option("--ak", metavar="FILE", help="The attestation key you trust: its TPM2B_PUBLIC.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="FILE", help="Go on from this state if it exists; replaced when the verdict is pass."
        ),
    ] = None,
    register: Annotated[
        list[int] | None,
        typer.Option(
            "--register",
            "-r",
            metavar="N",
            help="A register beside 10 that the machine's policy uses and the list must account for; may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Appraise evidence: who signed it, for which nonce, and which records of the list it proves.

    The exit status is 0 for pass, 1 for fail, 3 if the evidence cannot be read.
    """
    if ak is None:
        raise UsageError("name the attestation key you trust with --ak; the machine has it as ak.pub")
    challenge = hex_bytes("--nonce", nonce)
    if not challenge:
        raise UsageError(
            "the nonce is empty, so that any old quote would do; give the one the evidence was asked for with"
        )
    known = VerifierState.from_document(read_json(state)) if state is not None and is_there(state) else None
    result = appraise(
        read_bytes(evidence, MAX_EVIDENCE),
        nonce=challenge,
        trusted_ak=_trusted(ak),
        state=known,
        registers=register_numbers(register),
    )
    if state is not None and result.state is not None:
        write_json(state, result.state.to_document())
    unreadable = next((reason for reason in result.reasons if reason.code in _FORM_CODES), None)
    if json:
        emit_json(result.to_document())
    elif unreadable is not None:
        raise UnreadableEvidence(f"{evidence}: {unreadable.detail} ({unreadable.code})")
    else:
        _print(result)
    if unreadable is not None:
        return UnreadableEvidence.exit_status
    return 0 if result.passed else 1


def _trusted(path: Path) -> Public:
    data = read_bytes(path)
    if data.startswith(b"-----BEGIN"):
        raise MalformedInput(
            str(path),
            offset=0,
            expected="the AK's TPM2B_PUBLIC (ak.pub)",
            found="PEM, which does not say that the key is restricted",
        )
    try:
        return parse_public(data)
    except MalformedInput as error:
        try:
            return parse_public_area(data)
        except MalformedInput:
            expected = f"the AK's TPM2B_PUBLIC (ak.pub): {error.expected}"
            raise MalformedInput(str(path), offset=error.offset, expected=expected, found=error.found) from error


def _print(result: Result) -> None:
    out = console()
    if result.passed:
        out.print(
            f"[bold green]pass[/]: the quote proves {result.covered:,} records, {result.unverified:,} are unverified"
        )
        if result.begins == "boot_aggregate_late":
            out.print("the log begins with boot_aggregate_late: files used before late_initcall_sync were not measured")
        return
    out.print(f"[bold red]fail[/]: {len(result.reasons)} reason{'s' if len(result.reasons) > 1 else ''}")
    for reason in result.reasons:
        out.print(f"  {reason.code}: ", style="bold", end="")
        out.print(reason.detail, markup=False)
