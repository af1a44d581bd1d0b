"""``imarium verify``: appraise evidence offline."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from imarium import durable
from imarium.cli.documents import naming, read_bytes, read_json, replace_json
from imarium.cli.options import Json, nonce_bytes, register_numbers
from imarium.cli.output import console, emit_json
from imarium.cli.trust import takes_trust
from imarium.errors import ImariumError, MalformedInput, UsageError
from imarium.formats.evidence import MAX_EVIDENCE
from imarium.verifier import Result, Trust, VerifierState, appraise
from imarium.verifier.kinds import caveat

__all__ = ["verify"]

_NO_ANCHOR = "anchor_missing"
_FORM_CODES = frozenset({"evidence_truncated", "evidence_trailing", "evidence_malformed", "record_malformed"})


class UnreadableEvidence(ImariumError):
    """Evidence that fails by its form: malformed input rather than a negative verdict on good form."""

    code = "unreadable_evidence"
    exit_status = MalformedInput.exit_status


@takes_trust
def verify(
    evidence: Annotated[Path, typer.Argument(metavar="EVIDENCE", help="The file imarium attest made.")],
    nonce: Annotated[str, typer.Option("--nonce", metavar="HEX", help="The nonce the evidence was asked for with.")],
    trust: Collection[Trust],
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
    challenge = nonce_bytes(nonce)
    before, known = None, None
    if state is not None and durable.is_there(state):
        before = read_json(state)
        with naming(state):
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
        said = "" if result.state is None else caveat(result.state.log.kind)
        if said:
            out.print(said, style="bold yellow", markup=False)
        if result.boot_aggregate == "not_compared":
            out.print("boot_aggregate was not compared: the quote does not cover what it is taken over")
        if result.begins == "boot_aggregate_late":
            out.print("the log begins with boot_aggregate_late: files used before late_initcall_sync were not measured")
        return
    out.print(f"[bold red]fail[/]: {len(result.reasons)} reason{'s' if len(result.reasons) > 1 else ''}")
    for reason in result.reasons:
        out.print(f"  {reason.code}: ", style="bold", end="")
        out.print(reason.detail, markup=False)
