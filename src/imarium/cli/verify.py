"""``imarium verify``: appraise evidence offline."""

import time
from pathlib import Path
from typing import Annotated

import typer

from imarium.cli.documents import is_there, read_bytes, read_json, replace_json
from imarium.cli.options import Json, hex_bytes, register_numbers
from imarium.cli.output import console, emit_json
from imarium.cli.trust import ListAnchoring, keys_trusted, tdx_trust, tpm_trust
from imarium.cli.trust_options import (
    AllowSoftware,
    Bridged,
    CcaPlatformKey,
    Column,
    Initial,
    TdxAccept,
    TdxCollateral,
    TdxRoot,
    Time,
    VirtccaPlatformKey,
    VirtccaRealmKey,
)
from imarium.errors import ImariumError, MalformedInput, UsageError
from imarium.formats.evidence import MAX_EVIDENCE
from imarium.verifier import Result, Trust, VerifierState, appraise

__all__ = ["verify"]

_NO_ANCHOR = "anchor_missing"
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
    tdx_collateral: TdxCollateral = None,
    tdx_root: TdxRoot = None,
    tdx_accept: TdxAccept = None,
    at: Time = None,
    cca_platform_key: CcaPlatformKey = None,
    virtcca_platform_key: VirtccaPlatformKey = None,
    virtcca_realm_key: VirtccaRealmKey = None,
    allow_software: AllowSoftware = None,
    column: Column = None,
    initial: Initial = None,
    bridged: Bridged = False,
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

    The exit status is 0 for pass, 1 for fail, 2 if nothing is trusted of the evidence's kind of root of trust, 3 if the
    evidence cannot be read.
    """
    anchoring = ListAnchoring.from_options(column or (), initial or (), bridged=bridged)
    trust: list[Trust] = [] if ak is None else [tpm_trust(ak)]
    if tdx_collateral is not None:
        now = int(time.time()) if at is None else at
        trust.append(tdx_trust(tdx_collateral, tdx_root, now=now, accepted=tdx_accept or (), anchoring=anchoring))
    trust += keys_trusted(cca_platform_key, virtcca_platform_key, virtcca_realm_key, allow_software, anchoring)
    if not trust:
        raise UsageError(
            "name the attestation key you trust with --ak; the machine has it as ak.pub. For another root of trust "
            "than a TPM see --help"
        )
    challenge = hex_bytes("--nonce", nonce)
    if not challenge:
        raise UsageError(
            "the nonce is empty, so that any old quote would do; give the one the evidence was asked for with"
        )
    before, known = None, None
    if state is not None and is_there(state):
        before = read_json(state)
        known = VerifierState.from_document(before)
    result = appraise(
        read_bytes(evidence, MAX_EVIDENCE),
        nonce=challenge,
        trust=trust,
        state=known,
        registers=register_numbers(register),
    )
    if state is not None and result.state is not None:
        replace_json(state, before, result.state.to_document())
    return _answer(result, evidence, json=json)


def _answer(result: Result, evidence: Path, *, json: bool) -> int:
    """Print the result; the exit status it stands for. Raises what ends in one line where there is no verdict."""
    unreadable = next((reason for reason in result.reasons if reason.code in _FORM_CODES), None)
    unanchored = next((reason for reason in result.reasons if reason.code == _NO_ANCHOR), None)
    if json:
        emit_json(result.to_document())
    elif unanchored is not None:
        raise UsageError(f"{evidence}: {unanchored.detail}")
    elif unreadable is not None:
        raise UnreadableEvidence(f"{evidence}: {unreadable.detail} ({unreadable.code})")
    else:
        _print(result)
    if unreadable is not None:
        return UnreadableEvidence.exit_status
    if unanchored is not None:
        return UsageError.exit_status
    return 0 if result.passed else 1


def _print(result: Result) -> None:
    out = console()
    if result.passed:
        out.print(
            f"[bold green]pass[/]: the quote proves {result.covered:,} records, {result.unverified:,} are unverified"
        )
        if result.boot_aggregate == "not_compared":
            out.print("boot_aggregate was not compared: the quote does not cover what it is taken over")
        if result.begins == "boot_aggregate_late":
            out.print("the log begins with boot_aggregate_late: files used before late_initcall_sync were not measured")
        return
    out.print(f"[bold red]fail[/]: {len(result.reasons)} reason{'s' if len(result.reasons) > 1 else ''}")
    for reason in result.reasons:
        out.print(f"  {reason.code}: ", style="bold", end="")
        out.print(reason.detail, markup=False)
