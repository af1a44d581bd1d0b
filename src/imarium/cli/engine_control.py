"""Talking to the running engine, for ``imarium engine``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imarium.cli.output import console, emit_json
from imarium.engine import ask, wait_until_ended

__all__ = ["measure_there", "show_status", "stop_engine", "suspend_engine"]

_AT_ONCE = 40
"""Files named in one request: the longest paths there are, in JSON, fit into the longest line that is taken."""
_LOST = "a record it waits for was deleted, so it stays behind for good"


def suspend_engine(directory: Path, path: Path, *, stay: bool, json: bool) -> int:
    """Have it write what the next engine goes on from and, unless it is to ``stay``, end: then that can start."""
    done = ask(directory, {"command": "suspend", "path": str(path.absolute()), "stay": stay})
    if not stay:
        wait_until_ended(directory)
    if json:
        emit_json(done)
        return 0
    console().print(f"suspended: {done['handed_over']} records in {path}; go on with --restore {path}", markup=False)
    return 0


def stop_engine(directory: Path, *, json: bool) -> int:
    """End it."""
    done = ask(directory, {"command": "stop"})
    wait_until_ended(directory)
    if json:
        emit_json(done)
    return 0


def measure_there(directory: Path, paths: Sequence[Path], *, json: bool) -> int:
    """Have it measure files, and print what came of each."""
    files: list[Mapping[str, Any]] = []
    names = [str(path.absolute()) for path in paths]
    for first in range(0, len(names), _AT_ONCE):
        done: Mapping[str, Any] = ask(directory, {"command": "measure", "paths": names[first : first + _AT_ONCE]})
        files += done["files"]
    if json:
        emit_json({"files": files})
        return 0
    out = console()
    for each in files:
        done_now = "recorded" if each["recorded"] else "not recorded: this content of it is known"
        out.print(f"{each['path']}: {done_now}", markup=False)
    return 0


def show_status(directory: Path, *, json: bool) -> int:
    """Print how it stands."""
    found: Mapping[str, Any] = ask(directory, {"command": "status"})
    if json:
        emit_json(found)
        return 0
    out = console()
    records = found["records"]
    out.print(f"records    {records['current']} current, {records['staged']} staged, {records['full']} in all")
    out.print(f"violations {found['violations']}")
    if found["problems"]:
        out.print(f"problems   {found['problems']} uses of files may not have been measured before they happened")
    out.print(f"measuring  {'suspended' if found['suspended'] else 'yes'}")
    if found["bypass"]:
        out.print("registers  BYPASS: nothing is extended, so nothing proves the list")
    for each in found["registers"]:
        out.print(f"registers  {each['root']} {each['register']}: {_standing(each)}", markup=False)
    return 0


def _standing(register: Mapping[str, Any]) -> str:
    why = _LOST if register["lost"] else register["error"]
    behind = f"; {register['waiting']} wait: {why}" if register["waiting"] else ""
    return f"{register['records']} records{behind}"
