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
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
with atheris.instrument_imports(include=["imarium"]):
    from imarium.custody.journal import Entry, Event, Journal
    from imarium.custody.meta import read_meta
    from imarium.errors import ImariumError, MalformedInput

_PLACE = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - in memory, for speed
FILE = Path(tempfile.mkdtemp(prefix="imarium-fuzz-", dir=_PLACE)) / "file"
SUMS = 32


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


TARGETS = {target.__name__: target for target in (journal, meta)}


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
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
