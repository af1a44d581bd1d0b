"""ASCII measurement lists: the kernel's text form, for people and old tools.

A line is ``%2d`` register, template digest, template name and the text of each field, with a space between them (the
kernel's ``ima_ascii_measurements_show``). A name may hold newlines, so text does not always say where a record ends:
what reads it refuses what cannot be a record, and the template digest tells of the rest. The binary list has none of
these doubts.
"""

import re
from collections.abc import Iterable, Iterator

from imarium.errors import MalformedRecord
from imarium.formats import fields as codec
from imarium.formats.fields import MalformedField
from imarium.formats.records import MAX_RECORD_DATA, ListLayout, Record
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.formats.templates import FieldKind, template

__all__ = ["ascii_line", "display_line", "display_name", "read_ascii"]

_LINE = re.compile(rb"(?P<pcr> \d|[1-9]\d) (?P<digest>(?:[0-9a-f]{2})+) (?P<template>[^ ]+) (?P<fields>.*)", re.DOTALL)
_MAX_LINE = 2 * MAX_RECORD_DATA
_HINT = "(a name with a newline or space makes a text list ambiguous: use the binary one)"


def ascii_line(record: Record) -> bytes:
    """The line the kernel prints for the record, with its newline. Raises MalformedRecord if its fields are broken."""
    order = record.layout.byte_order
    texts = [
        codec.field_text(spec, raw, order) for spec, raw in zip(record.template.fields, record.fields, strict=True)
    ]
    head = f"{record.pcr:2d} {record.template_digest.hex()} {record.template.name}".encode("ascii")
    return b" ".join([head, *texts]) + b"\n"


def display_name(name: bytes) -> str:
    """A name as text that a person can read and that loses nothing.

    Printable UTF-8 stays; a backslash is doubled; every other byte, a newline among them, becomes ``\\xNN``. So two
    different names never look the same, and none can move the cursor of a terminal.
    """
    shown = []
    for character in name.decode("utf-8", "surrogateescape"):
        if character == "\\":
            shown.append("\\\\")
        elif character.isprintable():
            shown.append(character)
        else:
            shown += [f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")]
    return "".join(shown)


def display_line(record: Record) -> str:
    """The kernel's line without its newline, with names as :func:`display_name` shows them. Raises MalformedRecord."""
    return display_name(ascii_line(record)[:-1])


def read_ascii(blocks: Iterable[bytes], layout: ListLayout, *, first: int = 0) -> Iterator[Record]:
    """The records of an ASCII list that arrives in blocks, numbered from ``first``. Raises MalformedRecord.

    A line that is no record is refused. A record whose text gives another template digest than it carries is read,
    and its ``digest_is_good`` is false: either it was altered or text could not carry it.
    """
    number, offset = first, 0
    for line in _lines(blocks):
        if len(line) > _MAX_LINE:
            raise _malformed(number, offset, f"a line of at most {_MAX_LINE} bytes", line)
        if not line.endswith(b"\n"):
            raise _malformed(number, offset, "a line that ends in a newline", line)
        yield _parse_line(line[:-1], layout, number, offset)
        number += 1
        offset += len(line)


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their newlines; split at newlines only, which are the one separator the kernel writes.

    A line that goes on beyond the limit is cut off there, so that no more of it is held.
    """
    rest: list[bytes] = []
    pending = 0
    for block in blocks:
        if b"\n" not in block:
            rest.append(block)
            pending += len(block)
            if pending > _MAX_LINE:
                break
            continue
        lines = b"".join([*rest, block]).split(b"\n")
        for line in lines[:-1]:
            yield line + b"\n"
        rest = [lines[-1]]
        pending = len(lines[-1])
    last = b"".join(rest)
    if last:
        yield last


def _parse_line(line: bytes, layout: ListLayout, number: int, offset: int) -> Record:
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed(number, offset, f"register, template digest, template name and fields {_HINT}", line)
    pcr = int(match["pcr"])
    digest = bytes.fromhex(match["digest"].decode("ascii"))
    if len(digest) != layout.digest.size:
        raise _malformed(number, offset, f"a {layout.digest.name} template digest", match["digest"])
    if pcr >= LIST_PCRS:
        raise _malformed(number, offset, f"a register below {LIST_PCRS}", match["pcr"])
    found = template(match["template"])
    if found is None:
        raise _malformed(number, offset, "the name of a known template or its fields", match["template"])
    texts = match["fields"].split(b" ")
    if len(texts) != len(found.fields):
        wanted = f"{len(found.fields)} fields of template {found.name} {_HINT}"
        raise _malformed(number, offset, wanted, match["fields"])
    try:
        raw = tuple(
            codec.parse_field_text(spec, text, layout.byte_order, legacy=found.is_legacy)
            for spec, text in zip(found.fields, texts, strict=True)
        )
        data = codec.join_fields(found, raw, layout.byte_order)
        same = codec.split_fields(found, data, layout.byte_order) == raw
    except MalformedField as error:
        raise MalformedRecord(record=number, offset=offset, expected=error.expected, found=error.found) from error
    if not same:
        raise _malformed(number, offset, "a digest and a name", match["fields"])
    record = Record(number, offset, PcrIndex(pcr), digest, found, data, layout)
    return record if record.digest_is_good else _with_empty_strings(record, raw)


def _with_empty_strings(record: Record, raw: tuple[bytes, ...]) -> Record:
    """The record with a NUL in its empty text fields, if that is what its template digest was taken over.

    An absent text and an empty one look alike in ASCII; only the template digest tells them apart.
    """
    found = record.template
    filled = tuple(
        b"\0" if not field and spec.kind is FieldKind.STRING else field
        for spec, field in zip(found.fields, raw, strict=True)
    )
    if found.is_legacy or filled == raw:
        return record
    data = codec.join_fields(found, filled, record.layout.byte_order)
    other = Record(record.number, record.offset, record.pcr, record.template_digest, found, data, record.layout)
    return other if other.digest_is_good else record


def _malformed(number: int, offset: int, expected: str, found: bytes) -> MalformedRecord:
    return MalformedRecord(record=number, offset=offset, expected=expected, found=repr(found[:60]))
