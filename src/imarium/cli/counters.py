"""What measured update counters say of a list, for ``imarium replay``."""

from collections.abc import Sequence

from rich.console import Console

from imarium.chain import CounterInterval

__all__ = ["counters_document", "print_counters"]


def counters_document(intervals: Sequence[CounterInterval]) -> list[dict[str, object]]:
    """The intervals as a JSON document."""
    return [
        {
            "first": each.first,
            "last": each.last,
            "extends": each.extends,
            "updates": each.updates,
            "expected": each.expected,
            "verdict": each.verdict,
            "missing": {"least": each.missing[0], "most": each.missing[1]},
        }
        for each in intervals
    ]


def print_counters(out: Console, intervals: Sequence[CounterInterval]) -> None:
    """A line for all that is as it should be, and one for each interval that is not."""
    exact = sum(each.verdict == "exact" for each in intervals)
    if intervals:
        out.print(f"update counter: {exact} of {len(intervals)} intervals between readings are explained exactly")
    for each in intervals:
        if each.verdict != "exact":
            where = f"records {each.first} to {each.last}: {each.updates} updates, {each.expected} by the records"
            style = "" if each.verdict in {"other_registers", "reset"} else "[red]"
            out.print(f"{style}{where}: {_said(each)}{'[/]' if style else ''}")


def _said(interval: CounterInterval) -> str:
    most = _records(interval.missing[1])
    match interval.verdict:
        case "missing":
            return f"{most} missing here"
        case "missing_or_other":
            return f"{most} missing here at most, or other registers were extended meanwhile"
        case "other_registers":
            return "no record is missing, other registers were extended meanwhile"
        case "surplus":
            return "more records than were extended: some were added, or their extends failed"
        case "reset":
            return "the counter went back: the registers were reset in between"
        case _:
            return "explained exactly"


def _records(count: int) -> str:
    return "1 record is" if count == 1 else f"{count} records are"
