"""``imarium engine``: IMA in user space, behind the kernel's file interface."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from imarium import durable, hashes
from imarium.cli.engine_control import show_status, stop_engine, suspend_engine
from imarium.cli.engine_options import (
    Deadline,
    Exempt,
    Flush,
    HashName,
    Late,
    Measured,
    MeasureOnce,
    Mount,
    Nested,
    PolicyName,
    Restore,
    Roots,
    ShowStatus,
    Staging,
    State,
    Stay,
    Stop,
    Suspend,
    TemplateName,
    WatchedPaths,
    Without,
)
from imarium.cli.engine_run import EngineRun, Files, Watched, run_engine
from imarium.cli.options import Json
from imarium.engine import EngineOptions, regular_files
from imarium.errors import UsageError

__all__ = ["engine"]

_OWN_DATA = {"kernel_version", "policy", "update_counter"}


def engine(
    mount: Mount = None,
    rot: Roots = None,
    policy: PolicyName = None,
    watch: WatchedPaths = None,
    deadline: Deadline = 5.0,
    exempt: Exempt = None,
    measure: Measured = None,
    template: TemplateName = "ima-ng",
    hash_name: HashName = "sha256",
    flush_htable: Flush = False,
    late: Late = False,
    without: Without = None,
    staging: Staging = True,
    nested: Nested = False,
    state: State = None,
    restore: Restore = None,
    once: MeasureOnce = False,
    suspend_to: Suspend = None,
    stay: Stay = False,
    status: ShowStatus = False,
    stop: Stop = False,
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
    starting = bool(mount or watch or measure or restore or once)
    if talk := _talk(directory, suspend_to, stay=stay, status=status, stop=stop, json=json, alone=not starting):
        return talk()
    if not starting:
        raise UsageError("nothing to do: give --mount DIR, --watch PATH, --measure PATH, or --once; see --help")
    if once and (mount or watch):
        raise UsageError("--once measures and exits: leave out --mount and --watch")
    return run_engine(
        EngineRun(
            directory=directory,
            chosen=state is not None,
            options=_options(hash_name, template, without or (), flush_htable=flush_htable, late=late),
            roots=tuple(rot or ()),
            policy=tuple(policy or ()),
            files=Files(mount, staging, nested) if mount else None,
            watched=Watched(tuple(watch), deadline, tuple(exempt or ())) if watch else None,
            measure=tuple(file for path in measure or () for file in regular_files(path)),
            restore=restore,
            once=once or not (mount or watch),
            json=json,
        )
    )


def _talk(
    directory: Path, suspend_to: Path | None, *, stay: bool, status: bool, stop: bool, json: bool, alone: bool
) -> Callable[[], int] | None:
    """What is asked of the running engine, if anything. Raises UsageError for more than one thing."""
    if stay and suspend_to is None:
        raise UsageError("--stay goes with --suspend-to")
    asked: dict[str, Callable[[], int]] = {}
    if suspend_to is not None:
        asked["--suspend-to"] = partial(suspend_engine, directory, suspend_to, stay=stay, json=json)
    if status:
        asked["--status"] = partial(show_status, directory, json=json)
    if stop:
        asked["--stop"] = partial(stop_engine, directory, json=json)
    if len(asked) > 1 or (asked and not alone):
        raise UsageError(f"{next(iter(asked))} talks to the running engine: give it alone")
    return next(iter(asked.values()), None)


def _options(
    hash_name: str, template: str, without: Collection[str], *, flush_htable: bool, late: bool
) -> EngineOptions:
    """How the engine is to measure. Raises UsageError for unknown names."""
    if unknown := sorted(set(without) - _OWN_DATA):
        raise UsageError(f"--without {unknown[0]}: choose {', '.join(sorted(_OWN_DATA))}")
    return EngineOptions(
        hash_algorithm=hashes.by_name(hash_name),
        template=template,
        flush_htable=flush_htable,
        late=late,
        kernel_version="kernel_version" not in without,
        policy_changes="policy" not in without,
        update_counter="update_counter" not in without,
    )
