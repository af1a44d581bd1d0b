"""Fuzz what is read from a store: ``python tests/fuzz/fuzz_store.py TARGET [libFuzzer options]``.

A store can be damaged, or restored from anywhere. Nothing but imarium's own errors may leave what reads it, and what
is read must come out as it went in.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
with atheris.instrument_imports(include=["imarium"]):
    from imarium.chain import replay
    from imarium.custody import Event, LogMeta, Store, check_store
    from imarium.custody.index import Index, IndexHeader, read_index
    from imarium.custody.indexing import write_index
    from imarium.custody.journal import Entry, Journal
    from imarium.custody.meta import read_meta
    from imarium.custody.packed import PackedList, pack
    from imarium.errors import ImariumError, MalformedInput
    from imarium.formats.registers import PcrIndex
    from imarium.hashes import SHA1, SHA256, SHA384

_PLACE = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - in memory, for speed
FILE = Path(tempfile.mkdtemp(prefix="imarium-fuzz-", dir=_PLACE)) / "file"
STORE = FILE.parent / "store"
SUMS = 32
BANKS = (SHA1, SHA256, SHA384)


def _text(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def _signed(data: bytes) -> bytes:
    """Each line that is a JSON object, with the sum that it should have; the others as they are."""
    lines: list[bytes] = []
    previous = ""
    for line in data.split(b"\n"):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            document.pop("sum", None)
            previous = hashlib.sha256(f"{previous}\n{_text(document)}".encode()).hexdigest()[:SUMS]
            lines.append(json.dumps(document | {"sum": previous}).encode())
        else:
            lines.append(line)
    return b"\n".join(lines)


def journal(data: bytes) -> None:
    """A journal: as it is, or with sums that fit. One that is read can be mended and gone on with."""
    FILE.write_bytes(_signed(data[1:]) if data[:1] > b"\x7f" else data[1:])
    try:
        found = Journal(FILE)
    except MalformedInput as error:
        assert "\n" not in str(error), "an error of more than one line"
        return
    entries = list(found.entries)
    found.repair()
    found.append(Entry(Event.INTENT, "now", "boot", 1, 1, 0))
    again = Journal(FILE)
    assert again.entries[:-1] == entries, "mending changes what was read"
    assert again.torn == 0, "a mended journal is torn"
    FILE.write_bytes(b"")
    copy = Journal(FILE)
    for entry in entries:
        copy.append(entry)
    assert Journal(FILE).entries == entries, "a journal is not read as it was written"


def meta(data: bytes) -> None:
    """A log's ``meta.json``: as it is, or with a sum that fits."""
    body = data[1:]
    if data[:1] > b"\x7f":
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict):
            document.pop("sum", None)
            document["sum"] = hashlib.sha256(_text(document).encode()).hexdigest()[:SUMS]
            body = json.dumps(document).encode()
    FILE.write_bytes(body)
    try:
        found = read_meta(FILE)
    except ImariumError as error:
        assert "\n" not in str(error), "an error of more than one line"
        return
    FILE.write_bytes(found.to_bytes())
    assert read_meta(FILE) == found, "meta.json is not read as it was written"


LOG = bytes(range(16))


def index(data: bytes) -> None:
    """An index: as it is, or its parts with sums that fit. What is read is the one encoding of it."""
    if not data:
        return
    how, body = data[0], data[1:]
    with suppress(MalformedInput):
        header = IndexHeader.decode(body)
        assert body.startswith(header.encode()), "a header is not written as it was read"
    FILE.write_bytes(_index(body) if how > 0x7F else body)
    try:
        found = read_index(FILE, LOG)
    except ImariumError as error:
        assert "\n" not in str(error), "an error of more than one line"
        return
    if found is None:
        return
    for number in range(min(found.marks, 4)):
        with suppress(MalformedInput):
            _slot(found, number)
    found.before(how << 10, 1 << 40)


def _index(body: bytes) -> bytes:
    """A whole header, and slots with sums that fit."""
    registers = tuple(map(PcrIndex, sorted({byte % 64 for byte in body[:3]})))
    banks = BANKS[: 1 + len(body) % len(BANKS)]
    header = IndexHeader(LOG, banks, registers, known=len(body) % 2 == 0)
    size, slots = header.slot_size - SUMS // 2, []
    for number, at in enumerate(range(3, len(body) - size, size)):
        content = body[at : at + size]
        signed = header.encode() + ((number + 1) << 10).to_bytes(8, "little") + content
        slots.append(content + hashlib.sha256(signed).digest()[: SUMS // 2])
    return header.encode() + b"".join(slots)


def _slot(found: Index, number: int) -> None:
    mark = found.mark(number)
    assert mark.records == (number + 1) << 10
    assert found.header.decode_slot(number, found.header.encode_slot(mark)) == mark, "a slot is not read as written"


def packed(data: bytes) -> None:
    """A compressed list: as it is, or a good one with bytes changed; and any bytes, compressed."""
    if len(data) < 4:
        return
    how, body = data[0], data[4:]
    if how > 0x7F:
        whole = bytearray(b"".join(pack([bytes(300_000), body])))
        at = int.from_bytes(data[1:4], "little") % len(whole)
        whole[at : at + (how & 0x0F)] = body[: how & 0x0F]
        body = bytes(whole)
    FILE.write_bytes(body)
    try:
        found = PackedList(FILE)
        read = sum(len(block) for block in islice(found.blocks(0, found.size), 8))
        assert read <= found.size, "more is read than there is"
    except ImariumError as error:
        assert "\n" not in str(error), "an error of more than one line"
    FILE.write_bytes(b"".join(pack([data])))
    assert b"".join(PackedList(FILE).blocks(0, len(data))) == data, "a compressed list is not read as it was written"


def store(data: bytes) -> None:
    """A whole store, one file of which has other bytes: a check ends, and says what is wrong in one line each."""
    if len(data) < 4:
        return
    name = ("list", "journal", "meta.json", "index", "list")[data[0] % 5]
    path = STORE / "logs" / "0000" / name
    good = path.read_bytes()
    changed = bytearray(good)
    at = int.from_bytes(data[1:4], "little") % len(good)
    changed[at : at + len(data) - 4] = data[4:]
    path.write_bytes(changed)
    try:
        findings = list(islice(check_store(Store(STORE)), 50))
        assert all("\n" not in finding.detail for finding in findings), "a finding of more than one line"
        spaces = name in {"journal", "meta.json"}  # more of them between the members change nothing
        assert findings or spaces or bytes(changed) == good, "damage that is not found"
    finally:
        path.write_bytes(good)


def make_store() -> None:
    """A good store of one log with an index."""
    record = bytes.fromhex("0a000000") + bytes(20) + bytes.fromhex("06000000") + b"ima-ng" + bytes(4)
    log = Store(STORE, create=True).begin(LogMeta("little", "now", "boot", "reset", "fuzz"))
    log.list_path.write_bytes(record * 1500)
    log.grow(1500, 1500 * len(record))
    log.note(Event.KEPT, "boot", base=0, state=replay(log.blocks(), log.layout).state)
    write_index(log)


TARGETS = {target.__name__: target for target in (journal, meta, index, packed, store)}


def main() -> None:
    """Fuzz the target named first on the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_store.py {'|'.join(TARGETS)} [libFuzzer options] [corpus directory]")
    child = os.fork()  # libFuzzer ends its process at once, and someone must remove the file
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shutil.rmtree(FILE.parent)
        sys.exit(status if status >= 0 else 1)
    target = TARGETS[sys.argv.pop(1)]
    make_store()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
