"""``imarium engine``: IMA in user space, behind the kernel's file interface."""

from pathlib import Path
from typing import Annotated

import typer

from imarium import durable, hashes
from imarium.cli.engine_control import show_status, stop_engine, suspend_engine
from imarium.cli.engine_run import EngineRun, run_engine
from imarium.cli.options import Json
from imarium.engine import EngineOptions, regular_files
from imarium.errors import UsageError

__all__ = ["engine"]

_OWN_DATA = {"kernel_version", "policy", "update_counter"}

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
Watched = Annotated[
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


def engine(
    mount: Mount = None,
    rot: Roots = None,
    policy: PolicyName = None,
    watch: Watched = None,
    deadline: Deadline = 5.0,
    exempt: Exempt = None,
    measure: Measured = None,
    template: TemplateName = "ima-ng",
    hash_name: HashName = "sha256",
    flush_htable: Flush = False,
    late: Late = False,
    without: Without = None,
    staging: Annotated[bool, typer.Option(help="Offer files to stage and delete.")] = True,
    nested: Annotated[
        bool, typer.Option("--nested", help="Mount integrity/ima, so that DIR can stand for /sys/kernel/security.")
    ] = False,
    state: State = None,
    restore: Restore = None,
    once: Annotated[bool, typer.Option("--once", help="Measure, print the list, and exit.")] = False,
    suspend_to: Suspend = None,
    stay: Annotated[bool, typer.Option("--stay", help="With --suspend-to: keep the files mounted.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how the running engine stands.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the running engine, and with it its list.")] = False,
    json: Json = False,
) -> int:
    """Measure what is executed and read on this machine, keep the list, extend roots of trust, and serve the list.

    With --mount or --watch it runs until it is interrupted or unmounted. With --measure alone it measures these files
    and prints the list; where an engine is running, that one measures them. --suspend-to, --status and --stop talk to
    the running engine.

    Only a kernel sees everything: what is used before the engine starts, while it is stopped, or on file systems that
    it does not watch is not in the list, and root can stop it. See docs/engine.md.
    """
    directory = state or durable.state_directory("--state") / "engine"
    asked = [name for name, wanted in (("--suspend-to", suspend_to), ("--status", status), ("--stop", stop)) if wanted]
    starting = mount or watch or measure or restore or once
    if len(asked) > 1 or (asked and starting):
        raise UsageError(f"{asked[0]} talks to the running engine: give it alone")
    if once and (mount or watch):
        raise UsageError("--once measures and exits: leave out --mount and --watch")
    if stay and suspend_to is None:
        raise UsageError("--stay goes with --suspend-to")
    if suspend_to is not None:
        return suspend_engine(directory, suspend_to, stay=stay, json=json)
    if status:
        return show_status(directory, json=json)
    if stop:
        return stop_engine(directory, json=json)
    if not starting:
        raise UsageError("nothing to do: give --mount DIR, --watch PATH, --measure PATH, or --once; see --help")
    if unknown := sorted(set(without or ()) - _OWN_DATA):
        raise UsageError(f"--without {unknown[0]}: choose {', '.join(sorted(_OWN_DATA))}")
    options = EngineOptions(
        hash_algorithm=hashes.by_name(hash_name),
        template=template,
        flush_htable=flush_htable,
        late=late,
        kernel_version="kernel_version" not in (without or ()),
        policy_changes="policy" not in (without or ()),
        update_counter="update_counter" not in (without or ()),
    )
    return run_engine(
        EngineRun(
            directory=directory,
            chosen=state is not None,
            options=options,
            roots=tuple(rot or ()),
            policy=tuple(policy or ()),
            mount=mount,
            staging=staging,
            nested=nested,
            watch=tuple(watch or ()),
            deadline=deadline,
            exempt=tuple(exempt or ()),
            measure=tuple(file for path in measure or () for file in regular_files(path)),
            restore=restore,
            once=once or not (mount or watch),
            json=json,
        )
    )
