"""``imarium replay``: recompute register values from a list and match them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from imarium import hashes
from imarium.chain import (
    ChainState,
    CounterInterval,
    CounterTrail,
    RegisterValues,
    Replay,
    ReplayResult,
    explain_counters,
)
from imarium.cli.counters import counters_document, print_counters
from imarium.cli.documents import naming, read_json, read_text, write_json
from imarium.cli.lists import ByteOrderOption, DigestOption, FormOption, ListArgument, ListFile, ListOptions
from imarium.cli.options import Json
from imarium.cli.output import console, emit_json
from imarium.formats.lists import read_frames
from imarium.formats.pcrs import parse_pcr_option, parse_pcrread
from imarium.formats.registers import IMA_PCR
from imarium.hashes import SHA1, SHA256, HashAlgorithm

__all__ = ["replay"]

_SHOWN = 20


Value = Annotated[
    list[str] | None, typer.Option("--pcr", metavar="N:ALG=HEX", help="A register value to match; may be repeated.")
]
ValuesFile = Annotated[
    Path | None, typer.Option("--pcrs", metavar="FILE", help="Register values to match, as tpm2_pcrread prints them.")
]
ReplayedBank = Annotated[
    list[str] | None,
    typer.Option("--bank", metavar="ALG", help="A bank to replay; may be repeated [default: sha1, sha256]."),
]
PaddedBank = Annotated[
    list[str] | None,
    typer.Option("--padded", metavar="ALG", help="A bank whose algorithm the kernel lacked: padded SHA-1 digests."),
]
StartState = Annotated[
    Path | None, typer.Option("--from", metavar="STATE", help="The list goes on from this state (see --save).")
]
SavedState = Annotated[
    Path | None, typer.Option("--save", metavar="STATE", help="Write the state at the list's end, to go on from.")
]
CountedBanks = Annotated[
    int | None,
    typer.Option(
        "--counted-banks",
        metavar="N",
        min=1,
        max=16,
        help="How many banks the update counter counts for each record [default: told from LIST].",
    ),
]


def replay(
    path: ListArgument,
    pcr: Value = None,
    pcrs: ValuesFile = None,
    bank: ReplayedBank = None,
    padded: PaddedBank = None,
    start: StartState = None,
    save: SavedState = None,
    counted: CountedBanks = None,
    form: FormOption = "auto",
    digest: DigestOption = None,
    byte_order: ByteOrderOption = None,
    json: Json = False,
) -> int:
    """Recompute register values from a measurement list and match them with given ones.

    Every template digest is recomputed from its record's data. The exit status is 1 if a stored one differs or if a
    given register value is not reached after any record. Between two records that hold the TPM's update counter, it
    says whether a record is missing; with the values of all registers (--pcrs) it can tell that from others' extends.
    """
    begun = time.monotonic()
    named = parse_pcr_option(pcr or ())
    listed = _listed(pcrs) if pcrs else {}
    targets = _targets(listed, named)
    state = _state(start) if start else ChainState()
    padded_banks = [hashes.by_name(name) for name in padded or ()]
    banks = [hashes.by_name(name) for name in bank or ()] or _default_banks(state)
    with ListFile(path, ListOptions.parse(form, digest, byte_order), quiet=json) as source:
        run = Replay(
            source.form.layout,
            [*banks, *padded_banks],
            padded=padded_banks,
            start=state,
            targets=targets,
            optional=listed.keys() - named.keys() - {IMA_PCR},
        )
        trail = CounterTrail(source.form.layout, state.records)
        for frames in read_frames(source.blocks, source.form, first=state.records):
            run.feed(frames)
            trail.feed(frames)
    result = run.result()
    counters = explain_counters(trail, result, targets, counted)
    if save:
        write_json(save, result.state.to_document())
    if json:
        emit_json(_document(result, counters, time.monotonic() - begun))
    else:
        _print(result)
        print_counters(console(), counters)
    missed = bool(targets) and result.matches.prefix is None
    return 1 if result.bad_digests or missed else 0


def _listed(path: Path) -> RegisterValues:
    with naming(path):
        return parse_pcrread(read_text(path))


def _state(path: Path) -> ChainState:
    with naming(path):
        return ChainState.from_document(read_json(path))


def _targets(listed: RegisterValues, named: RegisterValues) -> RegisterValues:
    """The values to match, by register: those of a file and, before them, those that were named one by one."""
    return {number: {**listed.get(number, {}), **named.get(number, {})} for number in {**listed, **named}}


def _default_banks(state: ChainState) -> tuple[HashAlgorithm, ...]:
    return state.banks or (SHA1, SHA256)


def _document(result: ReplayResult, counters: Sequence[CounterInterval], seconds: float) -> dict[str, object]:
    return {
        "first": result.first,
        "records": result.records,
        "violations": result.violations,
        "bad_digests": list(result.bad_digests),
        "chains": {
            str(number): {bank.name: value.hex() for bank, value in banks.items()}
            for number, banks in result.state.values.items()
        },
        "match": {
            str(number): {bank.name: covered for bank, covered in banks.items()}
            for number, banks in result.matches.covered.items()
        },
        "covered": result.matches.prefix,
        "unverified": result.unverified,
        "boot_aggregates": [
            {
                "record": found.record,
                "name": found.name,
                "algorithm": found.algorithm,
                "digest": found.digest.hex(),
            }
            for found in result.boot_aggregates
        ],
        "counters": counters_document(counters),
        "seconds": round(seconds, 6),
    }


def _print(result: ReplayResult) -> None:
    out = console()
    out.print(f"{result.records:,} records, {result.violations:,} violations", end="")
    out.print(f", from record {result.first}" if result.first else "")
    for found in result.boot_aggregates[:_SHOWN]:
        out.print(f"record {found.record}: {found.name} {found.algorithm}:{found.digest.hex()}")
    for number, banks in result.state.values.items():
        for bank, value in banks.items():
            out.print(f"PCR {number} {bank.name:8} {value.hex()}{_match(result, number, bank)}")
    bad = result.bad_digests
    if bad:
        numbers = ", ".join(map(str, bad[:_SHOWN])) + (f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
        out.print(f"[red]template digest is not the one the data gives: record {numbers}[/]")
    if result.matches.covered:
        if result.matches.prefix is None:
            out.print("[red]the given register values match no prefix of the list[/]")
        else:
            out.print(
                f"[green]the given values cover the first {result.matches.prefix:,} records[/], "
                f"{result.unverified:,} are unverified"
            )


def _match(result: ReplayResult, number: int, bank: HashAlgorithm) -> str:
    banks = {int(pcr): covered for pcr, covered in result.matches.covered.items()}.get(number, {})
    if bank not in banks:
        return ""
    covered = banks[bank]
    return (
        "  [red]given value not reached[/]" if covered is None else f"  given value reached after {covered:,} records"
    )
