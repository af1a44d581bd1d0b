"""``imarium show``: look at a list, filter it, convert it."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from imarium.cli.lists import ByteOrderOption, DigestOption, FormOption, ListArgument, ListFile, ListOptions
from imarium.cli.options import Output
from imarium.cli.output import byte_output
from imarium.errors import MalformedRecord, UsageError
from imarium.formats.ascii import ascii_line, display_line
from imarium.formats.document import record_document
from imarium.formats.lists import ListKind, read_list
from imarium.formats.records import Record, encode_record

__all__ = ["render_as", "show", "write_array"]

Writer = Callable[[Record], bytes]


def show(
    path: ListArgument,
    first: Annotated[int, typer.Option("--from", metavar="N", min=0, help="Begin with record N, counted from 0.")] = 0,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=0, help="Show at most N records.")] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="RE", help="Only records whose line matches a regular expression.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORM", help="ascii (the kernel's own lines), binary or json [default: lines for people]."
        ),
    ] = None,
    output: Output = None,
    form: FormOption = "auto",
    digest: DigestOption = None,
    byte_order: ByteOrderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --to json.")] = False,
) -> int:
    """Look at a measurement list, filter it, or convert it.

    For people, each line has the record's number, a mark (V a violation, ! a template digest that is not the one the
    data gives) and the kernel's own line, in which bytes that are no printable text are written \\xNN.
    """
    wanted = "json" if as_json else to
    if as_json and to not in {None, "json"}:
        raise UsageError(f"--json and --to {to} exclude each other")
    write = render_as(wanted)
    pattern = _pattern(grep)
    with ListFile(path, ListOptions.parse(form, digest, byte_order), quiet=output is None) as source:
        records = _chosen(read_list(source.blocks, source.form), first, count, pattern)
        if wanted == "binary" and source.form.kind is ListKind.ASCII:
            records = _carried_by_text(records)
        if output is not None and _same_file(path, output):
            raise UsageError(f"{output} is the list itself; name another file with -o")
        if output is None and wanted == "binary" and sys.stdout.isatty():
            raise UsageError("a binary list is not for a terminal; name a file with -o")
        with byte_output(output) as out:
            if wanted == "json":
                write_array(records, out)
            else:
                for record in records:
                    out.write(write(record))
    return 0


def render_as(form: str | None) -> Writer:
    """What turns a record into bytes of an output form; None is the form for people. Raises UsageError."""
    match form:
        case None:
            return _line
        case "ascii":
            return ascii_line
        case "binary":
            return encode_record
        case "json":
            return lambda record: json.dumps(record_document(record)).encode()
        case _:
            raise UsageError(f"unknown form {form!r}; choose ascii, binary or json")


def _line(record: Record) -> bytes:
    mark = "V" if record.is_violation else " " if record.digest_is_good else "!"
    return f"{record.number:7d} {mark} {display_line(record)}\n".encode()


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise UsageError(f"--grep {text!r} is no regular expression: {error}") from error


def _chosen(
    records: Iterator[Record], first: int, count: int | None, pattern: re.Pattern[str] | None
) -> Iterator[Record]:
    left = count
    for record in records:
        if left == 0:
            return
        if record.number >= first and (pattern is None or pattern.search(display_line(record))):
            yield record
            left = left - 1 if left is not None else None


def _carried_by_text(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if not record.digest_is_good:
            raise MalformedRecord(
                record=record.number,
                offset=record.offset,
                expected="text that gives the record's template digest",
                found="text that gives another: it was altered, or ASCII could not carry it; use the binary list",
            )
        yield record


def _same_file(path: str, output: Path) -> bool:
    try:
        return path != "-" and output.samefile(path)
    except OSError:
        return False


def write_array(records: Iterator[Record], out: IO[bytes]) -> None:
    """One JSON document, an array of records, written one by one."""
    separator = b"[\n "
    for record in records:
        out.write(separator + json.dumps(record_document(record)).encode())
        separator = b",\n "
    out.write(b"[]\n" if separator == b"[\n " else b"\n]\n")
