"""``imarium log``: what custody holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from imarium.cli.log_care import check, retain_logs
from imarium.cli.log_mount import mount
from imarium.cli.options import Json, Output, StoreDirectory
from imarium.cli.output import byte_output, console, emit_json
from imarium.cli.show import render_as, write_array
from imarium.custody import Log, Store, default_store
from imarium.errors import UsageError
from imarium.formats.ascii import ascii_line

__all__ = ["app"]

app = typer.Typer(help="What custody holds.", no_args_is_help=True)
app.command()(mount)
app.command()(check)
app.command("retain")(retain_logs)

LogOption = Annotated[int | None, typer.Option("--log", metavar="NUMBER", min=0, help="Which log [default: newest].")]
FirstOption = Annotated[int, typer.Option("--from", metavar="N", min=0, help="Begin with record N, counted from 0.")]
CountOption = Annotated[int | None, typer.Option("--count", metavar="N", min=0, help="At most N records.")]


@app.command("list")
def list_logs(store: StoreDirectory = None, as_json: Json = False) -> None:
    """List the logs: one for each life of the registers, oldest first."""
    place = _store(store)
    logs = [place.log(number) for number in place.numbers]
    if as_json:
        emit_json({"store": str(place.path), "logs": [_summary(log) for log in logs]})
        return
    table = Table("log", "begun", "records", "bytes", "start", box=None, pad_edge=False)
    for log in logs:
        table.add_row(f"{log.number:04}", log.meta.created, str(log.records), str(log.bytes), log.meta.start)
    console().print(table)


@app.command()
def status(store: StoreDirectory = None, number: LogOption = None, as_json: Json = False) -> None:
    """Show one log: its size, where it begins, what the journal said last, and the registers it leads to."""
    log = _store(store).log(number)
    document = _status(log)
    if as_json:
        emit_json(document)
        return
    out = console()
    for name in ("log", "list", "begun", "start", "start_reason", "records", "bytes", "still_in_kernel"):
        out.print(f"{name.replace('_', ' '):16}{document[name]}", markup=False)
    last = log.journal.last
    if last is not None:
        out.print(f"{'last':16}{last.event} at {last.at}{f': {last.detail}' if last.detail else ''}", markup=False)
    for pcr, banks in _registers(log).items():
        for bank, value in banks.items():
            out.print(f"{'register':16}{pcr}:{bank} {value}", markup=False)


@app.command()
def read(
    first: FirstOption = 0,
    count: CountOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORM", help="ascii (the kernel's own lines), binary or json [default: lines for people]."
        ),
    ] = None,
    store: StoreDirectory = None,
    number: LogOption = None,
    as_json: Json = False,
) -> None:
    """Read kept records, from any one on."""
    if as_json and to not in {None, "json"}:
        raise UsageError(f"--json and --to {to} exclude each other")
    records = _store(store).log(number).records_from(first, count)
    if as_json or to == "json":
        write_array(records, sys.stdout.buffer)
        return
    if to == "binary" and sys.stdout.isatty():
        raise UsageError("a binary list is not for a terminal; use 'imarium log export -o FILE'")
    write = render_as(to)
    for record in records:
        sys.stdout.buffer.write(write(record))


@app.command()
def export(
    form: Annotated[str, typer.Option("--format", metavar="FORM", help="binary or ascii.")] = "binary",
    output: Output = None,
    first: FirstOption = 0,
    store: StoreDirectory = None,
    number: LogOption = None,
    as_json: Json = False,
) -> None:
    """Write kept records as the kernel's own binary or ASCII list."""
    if form not in {"binary", "ascii"}:
        raise UsageError(f"unknown format {form!r}; choose binary or ascii")
    if as_json and output is None:
        raise UsageError("--json says what was written to a file; name one with -o")
    if output is None and form == "binary" and sys.stdout.isatty():
        raise UsageError("a binary list is not for a terminal; name a file with -o")
    log = _store(store).log(number)
    start = log.offset_of(first)
    with byte_output(output) as out:
        size = 0
        blocks = log.blocks(start) if form == "binary" else map(ascii_line, log.records_from(first))
        for block in blocks:
            size += out.write(block)
    if as_json:
        emit_json({"log": log.number, "first": first, "records": log.records - first, "bytes": size})


def _store(path: Path | None) -> Store:
    return Store(path or default_store())


def _summary(log: Log) -> dict[str, object]:
    return {
        "log": log.number,
        "list": str(log.stored_path),
        "begun": log.meta.created,
        "boot_id": log.boot_id,
        "start": log.meta.start,
        "start_reason": log.meta.reason,
        "records": log.records,
        "bytes": log.bytes,
    }


def _status(log: Log) -> dict[str, object]:
    last = log.journal.last
    return {
        **_summary(log),
        "byte_order": log.meta.byte_order,
        "still_in_kernel": log.bytes - log.base,
        "last": last.to_document() if last is not None else None,
        "registers": _registers(log),
    }


def _registers(log: Log) -> dict[str, dict[str, str]]:
    """The registers the log leads to, by replay; none if its start is unknown."""
    state = log.end_state()
    if state is None:
        return {}
    return {str(pcr): {bank.name: value.hex() for bank, value in banks.items()} for pcr, banks in state.values.items()}
