"""``imarium log check`` and ``imarium log retain``: whether what is kept is whole, and what becomes of closed logs."""

from datetime import timedelta
from typing import Annotated

import typer

from imarium.cli.options import Json, StoreDirectory
from imarium.cli.output import console, emit_json
from imarium.custody import (
    Finding,
    Retained,
    Retention,
    Store,
    check_log,
    check_store,
    default_store,
    repair_log,
    retain,
)
from imarium.errors import ImariumError

__all__ = ["check", "retain_logs"]

_PATIENCE = 10.0
_MIB = 1 << 20
_DAYS = 366_000
"""Most days that a log can be kept for, as in a configuration."""


def check(
    number: Annotated[
        int | None, typer.Option("--log", metavar="NUMBER", min=0, help="Which log [default: all].")
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Mend what can be made again from what is whole. The list is not touched; what is cut is kept beside.",
        ),
    ] = False,
    store: StoreDirectory = None,
    as_json: Json = False,
) -> int:
    """Read every byte of the store, and say what is wrong, by record number.

    The list is parsed, every template digest is recomputed, and the registers are replayed and compared with what the
    journal noted and the index has; sums, sizes, owners and modes are looked at. Exit status 1 if anything is wrong
    that was not mended.
    """
    place = Store(store or default_store(), patience=_PATIENCE)
    numbers = place.numbers if number is None else (place.log_number(number),)
    done = [line for one in numbers if repair for line in repair_log(place, one)]
    findings = list(check_store(place) if number is None else check_log(place, numbers[0]))
    if as_json:
        wrong = [finding.to_document() for finding in findings]
        emit_json({"store": str(place.path), "logs": list(numbers), "repaired": done, "findings": wrong})
    else:
        _show(findings, done, len(numbers))
    return 1 if findings else 0


def _show(findings: list[Finding], done: list[str], logs: int) -> None:
    out = console()
    for line in done:
        out.print(f"repaired: {line}", markup=False)
    for finding in findings:
        out.print(_line(finding), markup=False)
    if any(finding.mends for finding in findings):
        out.print("some of this can be mended: run this again with --repair", markup=False)
    if not findings:
        out.print(f"nothing is wrong with {logs} log{'' if logs == 1 else 's'}", markup=False)


def _line(finding: Finding) -> str:
    where = "store" if finding.log is None else f"log {finding.log:04}"
    records = ""
    if finding.record is not None:
        one = finding.last in {None, finding.record}
        records = f", record {finding.record}" if one else f", records {finding.record} to {finding.last}"
    return f"{where}: {finding.part}{records}: {finding.detail}"


def retain_logs(
    older_than: Annotated[
        int | None,
        typer.Option("--older-than", metavar="DAYS", min=1, max=_DAYS, help="Delete logs that ended so long ago."),
    ] = None,
    larger_than: Annotated[
        int | None,
        typer.Option("--larger-than", metavar="MIB", min=1, help="Delete the oldest logs until all have at most this."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    store: StoreDirectory = None,
    as_json: Json = False,
) -> None:
    """Compress closed logs, and delete those that --older-than or --larger-than names. Never the newest log.

    A compressed log reads as before; zstd -d gives the plain list back. A verifier can no longer be given what is
    deleted.
    """
    age = None if older_than is None else timedelta(days=older_than)
    wanted = Retention(older_than=age, larger_than=None if larger_than is None else larger_than * _MIB)
    done: list[Retained] = []
    try:
        for one in retain(Store(store or default_store(), patience=_PATIENCE), wanted, dry=dry_run):
            done.append(one)
    except ImariumError:
        if done:
            _show_retained(done, dry_run, as_json=as_json)
        raise
    _show_retained(done, dry_run, as_json=as_json)


def _show_retained(done: list[Retained], dry_run: bool, *, as_json: bool) -> None:
    if as_json:
        emit_json({"dry_run": dry_run, "logs": [one.to_document() for one in done]})
        return
    out = console()
    for one in done:
        would = f"would be {one.action}" if dry_run else f"{one.action}, {one.freed} bytes freed"
        out.print(f"log {one.log:04}: {would}: {one.reason}", markup=False)
    if not done:
        out.print("nothing to do", markup=False)
