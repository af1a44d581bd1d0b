"""Fuzz what reads hostile bytes: ``python tests/fuzz/fuzz_lists.py TARGET [libFuzzer options]``.

Nothing but imarium's own errors may leave a parser, and what is read must come out as it went in. ``tests/fuzz/run``
runs every target for a while.
"""

import copy
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import atheris
import cbor2

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
with atheris.instrument_imports(include=["imarium"]):
    from imarium.chain import ChainState, Replay, ReplayResult
    from imarium.errors import ImariumError, MalformedInput, MalformedRecord
    from imarium.formats.ascii import ascii_line, display_line, read_ascii
    from imarium.formats.evidence import Evidence
    from imarium.formats.fields import ByteOrder
    from imarium.formats.kexec import KEXEC_HEADER_SIZE
    from imarium.formats.lists import ListForm, ListKind, detect_form, read_frames, read_list
    from imarium.formats.pcrs import parse_pcr_option, parse_pcrread
    from imarium.formats.records import ListLayout, Record, encode_record
    from imarium.formats.tpm import (
        parse_attest,
        parse_public,
        parse_public_area,
        parse_selection,
        parse_signature,
        selection_bytes,
    )
    from imarium.hashes import ALGORITHMS, SHA1, SHA256

ORDERS: tuple[ByteOrder, ...] = ("little", "big")
BANKS = [algorithm for algorithm in ALGORITHMS if algorithm.tcg_id and algorithm.computable]
FORMS = [
    ListForm(kind, ListLayout(bank, order, padded))
    for kind in ListKind
    for bank in BANKS
    for order in ORDERS
    for padded in ((False,) if bank is SHA1 else (False, True))
]


def lists(data: bytes) -> None:
    """A list in any form: whole and in blocks alike, round trips, and a replay that can be taken up anywhere."""
    if len(data) < 2:
        return
    form, step, body = FORMS[data[0] % len(FORMS)], data[1] + 1, data[2:]
    records, fault = _read([body], form)
    cut = [body[i : i + step] for i in range(0, len(body), step)]
    again, same = _read(cut, form)
    assert records == again, "block boundaries change the records"
    assert fault == same, f"block boundaries change the error: {fault!r} {same!r}"
    if form.kind is not ListKind.ASCII:
        start = KEXEC_HEADER_SIZE if form.kind is ListKind.KEXEC else 0
        encoded = b"".join(map(encode_record, records))
        assert body[start : start + len(encoded)] == encoded, "a record is not written as it was read"
    for record in records:
        _through_text(record, form.layout)
    if fault is None:
        _replays(body, form, len(records), step)


def _read(blocks: Iterable[bytes], form: ListForm) -> tuple[list[Record], str | None]:
    records: list[Record] = []
    try:
        for record in read_list(blocks, form):
            records.append(record)
    except MalformedInput as error:
        assert "\n" not in str(error), "an error of more than one line"
        return records, str(error)
    return records, None


def _through_text(record: Record, layout: ListLayout) -> None:
    """Text carries a record as it is, or is refused, or gives a record whose template digest tells."""
    try:
        line = ascii_line(record)
    except MalformedRecord:
        return
    assert "\n" not in display_line(record)
    try:
        copies = list(read_ascii([line], layout))
    except MalformedRecord:
        return
    if len(copies) == 1 and not record.is_violation and copies[0].digest_is_good:
        assert copies[0].data == record.data, "text gave a good record with other data"
    if len(copies) == 1:
        assert ascii_line(copies[0]) == line, "a text record is not written as it was read"


def _replay(body: bytes, form: ListForm, banks: int) -> ReplayResult:
    run = Replay(form.layout, (SHA1, SHA256)[:banks])
    for frames in read_frames([body], form):
        run.feed(frames)
    return run.result()


def _replays(body: bytes, form: ListForm, count: int, step: int) -> None:
    whole = _replay(body, form, 2)
    assert whole.records == count
    frames = list(itertools.chain.from_iterable(read_frames([body], form)))
    split = step % (len(frames) + 1)
    first = Replay(form.layout)
    first.feed(frames[:split])
    second = Replay(form.layout, start=first.result().state, targets=whole.state.values)
    second.feed(frames[split:])
    result = second.result()
    assert result.state == whole.state, "a resumed replay ends elsewhere"
    assert first.result().bad_digests + result.bad_digests == whole.bad_digests
    assert result.matches.prefix is not None, "the values a list ends with match no prefix of it"
    assert result.unverified == 0


def detect(data: bytes) -> None:
    """The form of anything at all."""
    if not data:
        return
    kind = [None, *ListKind][data[0] % 4]
    digest = [None, *BANKS][(data[0] >> 2) % (len(BANKS) + 1)]
    order = (None, *ORDERS, None)[data[0] >> 6]
    for complete in (False, True):
        with suppress(ImariumError):
            form = detect_form(data[1:], complete=complete, kind=kind, digest=digest, byte_order=order)
            assert kind is None or form.kind is kind
            assert digest is None or form.layout.digest is digest
            _read([data[1:]], form)


def pcrs(data: bytes) -> None:
    """Register values as text."""
    text = data.decode("utf-8", "replace")
    with suppress(MalformedInput):
        values = parse_pcrread(text)
        assert all(len(value) == bank.size for banks in values.values() for bank, value in banks.items())
    with suppress(ImariumError):
        parse_pcr_option(text.split("\n"))


def _frames_of(encode: Callable[[object], bytes], document: dict[str, Any], *paths: str) -> list[tuple[bytes, bytes]]:
    """What stands before and behind each member of an encoded document, and nothing: where to put fuzz."""
    frames = [(b"", b"")]
    for path in paths:
        marked = copy.deepcopy(document)
        *parents, last = path.split(".")
        container = marked
        for name in parents:
            container = container[name]
        container[last] = "marked member"
        before, _, behind = encode(marked).partition(encode("marked member"))
        frames.append((before, behind))
    return frames


def _framed(data: bytes, frames: list[tuple[bytes, bytes]]) -> bytes:
    before, behind = frames[data[0] % len(frames)] if data else (b"", b"")
    return before + data[1:] + behind


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


STATE = {"type": "imarium-state", "version": 1, "records": 1, "registers": {"10": {"sha1": "00" * 20}}}
STATES = _frames_of(_json, STATE, "type", "version", "records", "registers", "registers.10", "registers.10.sha1")

PART = {"kind": "tpm", "quote": b"", "signature": b"", "ak": b"", "values": {"sha1": {"10": bytes(20)}}}
LOG = {"first": 0, "count": 0, "digest": "sha1", "byte_order": "little", "records": b""}
EVIDENCES = _frames_of(
    partial(cbor2.dumps, canonical=True),
    {"type": "imarium-evidence", "version": 1, "root": PART, "list": LOG},
    *("type", "version", "root", "list", "root.kind", "root.quote", "root.ak", "root.values", "root.values.sha1"),
    *("root.values.sha1.10", "list.first", "list.count", "list.digest", "list.byte_order", "list.records"),
)


def state(data: bytes) -> None:
    """A resume state: any text, or a good one with one member of any kind."""
    try:
        document = json.loads(_framed(data, STATES))
    except (ValueError, RecursionError):
        return
    try:
        found = ChainState.from_document(document)
    except MalformedInput:
        return
    assert all(0 <= pcr < 64 for pcr in found.values), "a register no list can have"
    assert ChainState.from_document(json.loads(json.dumps(found.to_document()))) == found


def evidence(data: bytes) -> None:
    """Evidence, or evidence with one member of any kind: what is read is the one encoding of it."""
    whole = _framed(data, EVIDENCES)
    with suppress(MalformedInput):
        assert Evidence.decode(whole).encode() == whole


def tpm(data: bytes) -> None:
    """The TPM's structures."""
    parsers: list[Callable[[bytes], object]] = [parse_attest, parse_public, parse_public_area, parse_signature]
    for parse in parsers:
        with suppress(MalformedInput):
            parse(data)
    with suppress(MalformedInput):
        selection = parse_selection(data)
        assert parse_selection(selection_bytes(selection)) == selection


TARGETS = {target.__name__: target for target in (lists, detect, pcrs, state, evidence, tpm)}


def main() -> None:
    """Fuzz the target named first on the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_lists.py {'|'.join(TARGETS)} [libFuzzer options] [corpus directory]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
