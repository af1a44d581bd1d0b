"""``imarium log status``: how a log stands, for people and for programs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from imarium.cli.options import Json, StoreDirectory
from imarium.cli.output import console, emit_json
from imarium.custody import Entry, Event, Log, Store, default_store
from imarium.hashes import SHA1, SHA256

__all__ = ["LogOption", "log_summary", "status"]

LogOption = Annotated[int | None, typer.Option("--log", metavar="NUMBER", min=0, help="Which log [default: newest].")]

_EVENTS = 5
"""Of the journal's entries, how many a person is shown."""
_ALARMING = frozenset({Event.GAP, Event.REFUSED})
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def status(
    store: StoreDirectory = None,
    number: LogOption = None,
    events: Annotated[
        int, typer.Option("--events", metavar="N", min=0, help="How many of the journal's last entries to show.")
    ] = _EVENTS,
    as_json: Json = False,
) -> None:
    """Show how a log stands: its size, its start, what proves it, the registers it leads to, and what was done last.

    The registers are those noted when the records were kept. 'imarium log check' replays all of them.
    """
    place = Store(store or default_store())
    log = place.log(number)
    registers = _registers(log)
    if as_json:
        emit_json(_document(place, log, registers))
        return
    out = console()
    _show_facts(out, place, log, registers)
    _show_registers(out, registers)
    _show_events(out, log, events)


def log_summary(log: Log) -> dict[str, object]:
    """A log as one of several."""
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


@dataclass(frozen=True, slots=True)
class _Registers:
    """The registers a log leads to, by replay of the records from number ``noted`` on.

    What those before it led to was noted in the journal or the index when they were kept. Without values if the log's
    start is unknown.
    """

    values: dict[str, dict[str, str]]
    noted: int

    def basis(self, log: Log) -> str:
        """What they are based on, in one line."""
        if not self.noted:
            return f"replay of all {_number(log.records, 'record')}"
        replayed = log.records - self.noted
        return (
            f"what was noted at record {self.noted:,}, and replay of {_number(replayed, 'record')} since; "
            f"'imarium log check --log {log.number}' replays all"
        )


def _document(store: Store, log: Log, registers: _Registers) -> dict[str, object]:
    last = log.journal.last
    return {
        **log_summary(log),
        "byte_order": log.meta.byte_order,
        "still_in_kernel": log.bytes - log.base,
        "proved_by": list(log.proved_by),
        "newest": log.number == store.numbers[-1],
        "gaps": _count(log, Event.GAP),
        "refusals": _count(log, Event.REFUSED),
        "refused": _refused(store, log),
        "last": last.to_document() if last is not None else None,
        "registers": registers.values,
        "registers_noted_at": registers.noted,
    }


def _registers(log: Log) -> _Registers:
    if log.meta.start == "unknown":
        return _Registers({}, 0)
    noted = log.mark_before(log.records, (SHA1, SHA256)).records
    values = log.state_at(log.records).values
    named = {str(pcr): {bank.name: value.hex() for bank, value in banks.items()} for pcr, banks in values.items()}
    return _Registers(named, noted)


def _count(log: Log, event: Event) -> int:
    return sum(entry.event is event for entry in log.journal.entries)


def _refused(store: Store, log: Log) -> str | None:
    """Why nothing is deleted from the kernel; None if that is not so, as far as is known, or the log is over."""
    return log.refusal.detail if log.refusal is not None and log.number == store.numbers[-1] else None


def _show_facts(out: Console, store: Store, log: Log, registers: _Registers) -> None:
    newest = log.number == store.numbers[-1]
    facts = Table.grid(padding=(0, 2))
    proved = (
        f"register {', '.join(map(str, log.proved_by))}" if log.proved_by else "no register: content and journal only"
    )
    last = log.journal.last
    refused = _refused(store, log)
    rows = {
        "store": f"{store.path}, {_number(len(store.numbers), 'log')}",
        "log": f"{log.number:04}, {'being kept' if newest else 'over'}",
        "begun": f"{log.meta.created} ({_ago(log.meta.created)})",
        "begins": f"{_START[log.meta.start]}: {log.meta.reason}",
        "kept": f"{_number(log.records, 'record')}, {_size(log.bytes)} in {log.stored_path}",
        "in the kernel": f"{_size(log.bytes - log.base)} of them, when last looked at",
        "proved by": proved,
        "gaps": str(_count(log, Event.GAP) or "none"),
        "last": f"{last.event}, {_ago(last.at)}" if last else "nothing yet",
    }
    if registers.values:
        rows["registers"] = f"by {registers.basis(log)}"
    if refused is not None:
        rows["refused"] = f"nothing is deleted from the kernel: {refused}"
    for name, text in rows.items():
        facts.add_row(name, _plain(text), style="red" if name == "refused" else None)
    out.print(facts)


_START = {"reset": "at the registers' reset", "unknown": "nobody knows where"}


def _show_registers(out: Console, registers: _Registers) -> None:
    if not registers.values:
        return
    table = Table("register", "bank", Column("value", overflow="fold"), box=None, pad_edge=False)
    for pcr, banks in registers.values.items():
        for bank, value in banks.items():
            table.add_row(pcr, bank, value)
    out.print()
    out.print(table)


def _show_events(out: Console, log: Log, count: int) -> None:
    entries = log.journal.entries[len(log.journal.entries) - count :] if count else []
    if not entries:
        return
    table = Table("at", "event", "records", "detail", box=None, pad_edge=False)
    for entry in entries:
        style = "red" if entry.event in _ALARMING else None
        table.add_row(entry.at, entry.event.value, str(entry.records), _plain(_detail(entry)), style=style)
    out.print()
    out.print(table)


def _detail(entry: Entry) -> str:
    proved = f"proved by register {', '.join(map(str, entry.registers))}" if entry.registers else ""
    return "; ".join(filter(None, (entry.detail, proved)))


def _plain(text: str) -> Text:
    return Text(text)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(size: int) -> str:
    """A size for people."""
    if size < 10_000:
        return _number(size, "byte")
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000 or unit == "GB":
            break
    return f"{amount:.1f} {unit}"


def _ago(text: str) -> str:
    """How long ago something was, for people; as it stands if it is not a time."""
    try:
        at = datetime.fromisoformat(text)
        seconds = int((datetime.now(UTC) - at).total_seconds())
    except (ValueError, TypeError):
        return "at a time that cannot be told"
    if seconds < 0:
        return "in the future, by this machine's clock"
    for size, name in _UNITS:
        if seconds >= size:
            return f"{_number(seconds // size, name)} ago"
    return "just now"
