"""The options of ``imarium engine``, and what their texts mean."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Deadline",
    "Exempt",
    "Flush",
    "HashName",
    "Late",
    "MeasureOnce",
    "Measured",
    "Mount",
    "Nested",
    "PolicyName",
    "Restore",
    "Roots",
    "ShowStatus",
    "Staging",
    "State",
    "Stay",
    "Stop",
    "Suspend",
    "TemplateName",
    "WatchedPaths",
    "Without",
]

Mount = Annotated[Path | None, typer.Option("--mount", metavar="DIR", help="Show the kernel's files here.")]
Roots = Annotated[
    list[str] | None,
    typer.Option(
        "--rot",
        metavar="NAME",
        help="A root of trust to extend, as in 'imarium rot list'; may be repeated; none for none "
        "[default: the first that opens, where the kernel does not extend it itself].",
    ),
]
PolicyName = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME|FILE",
        help="tcb, critical_data, or a file of rules; may be repeated [default: tcb, critical_data].",
    ),
]
WatchedPaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--watch",
        metavar="PATH",
        help="Measure what is executed and opened: on the file system mounted there, else below it; may be repeated.",
    ),
]
Deadline = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.01, help="Longest that a program waits for being measured; then it goes on."),
]
Exempt = Annotated[
    list[int] | None,
    typer.Option(metavar="PID", help="Do not watch this process, which measuring itself needs; may be repeated."),
]
Measured = Annotated[
    list[Path] | None,
    typer.Option(
        "--measure", metavar="PATH", help="Measure this file, or all in this directory, now; may be repeated."
    ),
]
TemplateName = Annotated[
    str, typer.Option("--template", metavar="NAME", help="A built-in template, or fields such as d-ng|n-ng.")
]
HashName = Annotated[str, typer.Option("--hash", metavar="ALG", help="What files are measured with (ima_hash).")]
Flush = Annotated[
    bool, typer.Option("--flush-htable", help="Forget digests with the staged records: memory stays flat.")
]
Late = Annotated[bool, typer.Option("--late", help="Name the first record boot_aggregate_late.")]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="DATA", help="Do not measure kernel_version, policy or update_counter."),
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The engine's own place [default: below /var/lib/imarium for root]."),
]
Suspend = Annotated[
    Path | None,
    typer.Option("--suspend-to", metavar="FILE", help="Have the running engine write what the next goes on from."),
]
Restore = Annotated[
    Path | None, typer.Option("--restore", metavar="FILE", help="Go on from what a suspended engine wrote.")
]
Staging = Annotated[bool, typer.Option(help="Offer files to stage and delete.")]
Nested = Annotated[
    bool, typer.Option("--nested", help="Mount integrity/ima, so that DIR can stand for /sys/kernel/security.")
]
MeasureOnce = Annotated[bool, typer.Option("--once", help="Measure, print the list, and exit.")]
Stay = Annotated[bool, typer.Option("--stay", help="With --suspend-to: keep the files mounted.")]
ShowStatus = Annotated[bool, typer.Option("--status", help="Show how the running engine stands.")]
Stop = Annotated[bool, typer.Option("--stop", help="End the running engine, and with it its list.")]
