"""``imarium log``: what custody holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from imarium.cli.log_care import check, retain_logs
from imarium.cli.log_mount import mount
from imarium.cli.log_status import LogOption, log_summary, status
from imarium.cli.options import Json, Output, StoreDirectory
from imarium.cli.output import byte_output, console, emit_json
from imarium.cli.show import render_as, write_array
from imarium.custody import Log, Store, default_store
from imarium.errors import ImariumError, UsageError
from imarium.formats.ascii import ascii_line

__all__ = ["app"]

app = typer.Typer(help="What custody holds.", no_args_is_help=True)
app.command()(status)
app.command()(mount)
app.command()(check)
app.command("retain")(retain_logs)

FirstOption = Annotated[int, typer.Option("--from", metavar="N", min=0, help="Begin with record N, counted from 0.")]
CountOption = Annotated[int | None, typer.Option("--count", metavar="N", min=0, help="At most N records.")]


@app.command("list")
def list_logs(store: StoreDirectory = None, as_json: Json = False) -> None:
    """List the logs: one for each life of the registers, oldest first.

    One that is damaged hinders no other: what is wrong with the first of them is said behind the list.
    """
    place = _store(store)
    logs, damaged = list[Log](), list[ImariumError]()
    for number in place.numbers:
        try:
            logs.append(place.log(number))
        except ImariumError as error:
            damaged.append(error)
    if as_json:
        emit_json({"store": str(place.path), "logs": [log_summary(log) for log in logs]})
    else:
        table = Table("log", "begun", "records", "bytes", "start", box=None, pad_edge=False)
        for log in logs:
            table.add_row(f"{log.number:04}", log.meta.created, str(log.records), str(log.bytes), log.meta.start)
        console().print(table)
    if damaged:
        raise damaged[0]


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
