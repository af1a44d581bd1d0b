"""Measurement lists in any of their forms, and telling which one a list has.

A list does not say what it is. :func:`detect_form` decides by what its beginning can only be, and refuses to guess
where two readings remain.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, islice

from imarium.errors import MalformedInput, UsageError
from imarium.formats.ascii import read_ascii
from imarium.formats.fields import ByteOrder
from imarium.formats.kexec import KEXEC_HEADER_SIZE, KexecHeader, list_in_kexec_buffer
from imarium.formats.records import Frame, ListLayout, Record, RecordFramer, read_records
from imarium.hashes import ALGORITHMS, SHA1, HashAlgorithm

__all__ = ["ListForm", "ListKind", "detect_form", "peek", "read_frames", "read_list"]

_ASCII_START = re.compile(rb"(?: \d|\d\d) (?P<digest>(?:[0-9a-f]{2}){20,64}) [^ \n]+ ")
_SAMPLE = 64
_BATCH = 4096


class ListKind(Enum):
    """What a list is written as."""

    BINARY = "binary"
    ASCII = "ascii"
    KEXEC = "kexec"


@dataclass(frozen=True, slots=True)
class ListForm:
    """What a list is written as, and its layout."""

    kind: ListKind = ListKind.BINARY
    layout: ListLayout = field(default_factory=ListLayout)


def read_list(blocks: Iterable[bytes], form: ListForm, *, first: int = 0) -> Iterator[Record]:
    """The records of a list in any form, numbered from ``first``. Raises MalformedRecord or MalformedInput."""
    match form.kind:
        case ListKind.BINARY:
            yield from read_records(blocks, form.layout, first=first)
        case ListKind.ASCII:
            yield from read_ascii(blocks, form.layout, first=first)
        case ListKind.KEXEC:
            header, blocks = _kexec_header(blocks)
            end = first
            for record in read_records(
                list_in_kexec_buffer(blocks), form.layout, first=first, offset=KEXEC_HEADER_SIZE
            ):
                yield record
                end = record.number + 1
            _check_count(header, end - first)


def read_frames(blocks: Iterable[bytes], form: ListForm, *, first: int = 0) -> Iterator[Sequence[Frame]]:
    """The same as batches of frames, for a replay. The fields of a binary list's records are not looked into."""
    match form.kind:
        case ListKind.BINARY:
            yield from _frames(blocks, RecordFramer(form.layout, first=first))
        case ListKind.ASCII:
            records = read_ascii(blocks, form.layout, first=first)
            while batch := [record.frame for record in islice(records, _BATCH)]:
                yield batch
        case ListKind.KEXEC:
            header, blocks = _kexec_header(blocks)
            framer = RecordFramer(form.layout, first=first, offset=KEXEC_HEADER_SIZE)
            yield from _frames(list_in_kexec_buffer(blocks), framer)
            _check_count(header, framer.number - first)


def _frames(blocks: Iterable[bytes], framer: RecordFramer) -> Iterator[Sequence[Frame]]:
    for block in blocks:
        yield framer.feed(block)
        framer.check()
    framer.finish()


def _kexec_header(blocks: Iterable[bytes]) -> tuple[KexecHeader, Iterator[bytes]]:
    head, blocks = peek(blocks, KEXEC_HEADER_SIZE)
    return KexecHeader.decode(head), blocks


def _check_count(header: KexecHeader, count: int) -> None:
    if header.count != count:
        raise MalformedInput(
            "kexec buffer", offset=16, expected=f"{header.count} records, as its header says", found=str(count)
        )


def peek(blocks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """At least the first ``size`` bytes, fewer only where there are no more, and all the blocks again."""
    iterator = iter(blocks)
    taken: list[bytes] = []
    have = 0
    for block in iterator:
        taken.append(block)
        have += len(block)
        if have >= size:
            break
    return b"".join(taken), chain(taken, iterator)


def detect_form(
    head: bytes,
    *,
    complete: bool,
    kind: ListKind | None = None,
    digest: HashAlgorithm | None = None,
    byte_order: ByteOrder | None = None,
) -> ListForm:
    """The form of the list that begins with ``head``; ``complete`` says that ``head`` is all of it.

    What the caller knows is taken for granted. Among the layouts that remain, the one is chosen in which the
    beginning can be read and its records' template digests are the ones their data gives. Raises UsageError where
    that leaves several; where it leaves none, reading the list in the form returned says what is wrong with it.
    Raises MissingComponent if ``digest`` cannot be computed here.
    """
    if digest is not None:
        digest.constructor()
    if not head:
        return ListForm(kind or ListKind.BINARY, ListLayout(digest or ListLayout().digest, byte_order or "little"))
    kind = kind or _detect_kind(head)
    if kind is ListKind.KEXEC:
        return ListForm(kind, ListLayout(digest or SHA1, byte_order or KexecHeader.decode(head).byte_order))
    candidates = [
        ListForm(kind, ListLayout(algorithm, order, padded))
        for algorithm in ([digest] if digest else _columns(head, kind))
        for order in ([byte_order] if byte_order else _BYTE_ORDERS)
        for padded in (False, True)
        if not (padded and algorithm is SHA1)
    ]
    trials = [_try(head, form, complete) for form in candidates]
    best = max(trials, key=lambda trial: (trial.good, trial.clean, trial.read, not trial.form.layout.padded))
    if best.good or not best.clean:
        return best.form  # where nothing is clean, reading it says what is wrong with the record that is closest
    clean = [trial.form for trial in trials if trial.clean and not trial.form.layout.padded]
    if _alike(clean):
        return best.form
    names = ", ".join(dict.fromkeys(form.layout.digest.name for form in clean))
    orders = ", ".join(dict.fromkeys(form.layout.byte_order for form in clean))
    raise UsageError(
        f"the list's layout cannot be told from its beginning: template digests of {names}, byte order {orders}; "
        "say which with --digest and --byte-order"
    )


_BYTE_ORDERS: tuple[ByteOrder, ...] = ("little", "big")


def _columns(head: bytes, kind: ListKind) -> Sequence[HashAlgorithm]:
    """The algorithms a template-digest column may have; the text of an ASCII list shows the digest's size."""
    known = [algorithm for algorithm in ALGORITHMS if algorithm.tcg_id and algorithm.computable]
    column = _ASCII_START.match(head) if kind is ListKind.ASCII else None
    return [algorithm for algorithm in known if column and 2 * algorithm.size == len(column["digest"])] or known


def _alike(forms: Sequence[ListForm]) -> bool:
    """Whether the choice makes no difference: one layout, or an ASCII list's byte order alone."""
    digests = {form.layout.digest for form in forms}
    return len(digests) == 1 and (len(forms) == 1 or forms[0].kind is ListKind.ASCII)


def _detect_kind(head: bytes) -> ListKind:
    if _ASCII_START.match(head):
        return ListKind.ASCII
    try:
        header = KexecHeader.decode(head)
    except MalformedInput:
        return ListKind.BINARY
    body = head[KEXEC_HEADER_SIZE : header.buffer_size]
    form = ListForm(ListKind.BINARY, ListLayout(byte_order=header.byte_order))
    empty = header.count == 0 and header.buffer_size == KEXEC_HEADER_SIZE
    return ListKind.KEXEC if empty or (body and _try(body, form, complete=False).clean) else ListKind.BINARY


@dataclass(frozen=True, slots=True)
class _Trial:
    """The beginning of a list read in one form: records read, how many of them carry the digest their data gives,
    and whether nothing was wrong.
    """

    form: ListForm
    read: int
    good: int
    clean: bool


def _try(head: bytes, form: ListForm, complete: bool) -> _Trial:
    good = read = 0
    try:
        for record in islice(read_list([head], form), _SAMPLE):
            read += 1
            good += not record.is_violation and record.digest_is_good
            _ = record.fields
    except MalformedInput as error:
        cut_off = error.found.startswith("the end of the") or (form.kind is ListKind.ASCII and read > 0)
        return _Trial(form, read, good, clean=cut_off and not complete)
    return _Trial(form, read, good, clean=True)
