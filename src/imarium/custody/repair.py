"""Repairing a log: what can be made again from what is whole, and nothing else.

Not a byte of the list that the journal names is touched. What is cut or replaced is kept in a file beside. Nothing is
made from a list in which anything is wrong: the index may be all there is to tell what.
"""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from imarium import durable
from imarium.custody.check import Finding, check_log, sound_rebuild
from imarium.custody.indexing import write_index
from imarium.custody.log import JOURNAL_FILE, META_FILE, Log
from imarium.custody.store import Store

__all__ = ["repair_log"]


def repair_log(store: Store, number: int) -> list[str]:
    """Mend what :func:`check_log` says that can be mended; what was done, in lines for people.

    Takes the store's exclusive lock while it mends. Raises StoreBusy, MissingComponent if that cannot be written.
    """
    findings = list(check_log(store, number))
    if not any(finding.mends for finding in findings):
        return []
    with store.lock():
        return list(_mend(store, number, findings))


def _mend(store: Store, number: int, findings: list[Finding]) -> Iterator[str]:
    for path in _open_to_others(store.directory_of(number), findings):
        mode = stat.S_IMODE(path.lstat().st_mode) & 0o700
        with durable.storage_errors(path):
            path.chmod(mode)
        yield f"log {number:04}: {path.name}: mode is now {mode:04o}"
    yield from _rebuild(store, number)
    log = _opened(store, number, findings)
    if log is None:
        return
    if log.journal.torn:
        copy = _keep(log.journal.path, durable.size_of(log.journal.path) - log.journal.torn)
        log.journal.repair()
        yield f"log {number:04}: the journal's damaged last line was cut; {copy.name} has it"
    if log.unjournaled and log.list_path.exists() and number == store.numbers[-1]:
        copy = _keep(log.list_path, log.bytes)
        cut = log.recover()
        yield f"log {number:04}: {cut} bytes behind the list's last good record were cut; {copy.name} has all of them"
    if any(finding.part in {"list", "journal", "meta"} and not finding.mends for finding in findings):
        return
    if any(finding.part == "index" for finding in findings):
        written = write_index(log, anew=True)
        yield f"log {number:04}: the index was made anew: {written} marks"


def _rebuild(store: Store, number: int) -> Iterator[str]:
    """Put a ``meta.json`` and a journal in place of damaged ones: first the journal, which goes by what is there."""
    rebuild = sound_rebuild(store, number)
    if rebuild is None:
        return
    directory = store.directory_of(number)
    durable.sweep(directory)
    for damage, name, write in (
        (rebuild.journal, JOURNAL_FILE, rebuild.write_journal),
        (rebuild.meta, META_FILE, rebuild.write_meta),
    ):
        if damage:
            there = os.path.lexists(directory / name)
            has = f"; {_keep(directory / name, 0, 'damaged').name} has the damaged one" if there else ""
            write()
            yield f"log {number:04}: {name} was rebuilt from the list{has}"


def _opened(store: Store, number: int, findings: list[Finding]) -> Log | None:
    """The log, if it can be opened."""
    unreadable = any(finding.record is None and not finding.mends for finding in findings)
    return None if unreadable else store.log(number)


def _open_to_others(directory: Path, findings: list[Finding]) -> list[Path]:
    if not any(finding.part == "store" and finding.mends for finding in findings):
        return []
    with durable.storage_errors(directory):
        places = [directory, *directory.iterdir()]
    return [place for place in places if stat.S_IMODE(place.lstat().st_mode) & 0o077 and not place.is_symlink()]


def _keep(path: Path, start: int, why: str = "cut") -> Path:
    """Copy what a file has from byte ``start`` on to a file beside, durably."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    copy = path.with_name(f"{path.name}.{why}-{stamp}")
    size = durable.size_of(path)
    durable.append_blocks(copy, durable.read_blocks(path, start, size), size=size - start)
    durable.sync_file(copy)
    durable.sync_directory(copy.parent)
    return copy
