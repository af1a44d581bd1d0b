"""Who has the list files open, as far as the system tells: from the descriptors of each process in /proc.

Of processes of other users only root is told. No file is opened for it, so nothing is measured.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holder", "described", "holders"]

_PROC = Path("/proc")
_MARK = "_runtime_measurements"
_NAMED = 4
"""How many processes a line names at most."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a list file open: its number, the name of its program, and the file's name."""

    pid: int
    program: str
    file: str


def holders(directory: Path, *, seconds: float = 0.5, proc: Path = _PROC) -> tuple[Holder, ...]:
    """The processes but this one that have files of the lists in ``directory`` open.

    The search ends after ``seconds``; then some may be missing.
    """
    deadline = time.monotonic() + seconds
    found: list[Holder] = []
    for pid in _processes(proc):
        if time.monotonic() > deadline:
            break
        file = next((name for name in _open_files(proc / str(pid)) if _is_of(name, directory)), None)
        if file is not None:
            found.append(Holder(pid, _program(proc / str(pid)), Path(file).name))
    return tuple(found)


def described(found: tuple[Holder, ...]) -> str:
    """The holders in words, for the beginning of a sentence."""
    if not found:
        return "someone else"
    names = ", ".join(f"process {holder.pid} ({holder.program})" for holder in found[:_NAMED])
    return f"{names} and others" if len(found) > _NAMED else names


def _processes(proc: Path) -> Iterator[int]:
    own = os.getpid()
    for entry in os.scandir(proc):
        if entry.name.isascii() and entry.name.isdigit() and int(entry.name) != own:
            yield int(entry.name)


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):
        for entry in os.scandir(process / "fd"):
            with suppress(OSError):
                target = str(Path(entry.path).readlink())
                if _MARK in target:
                    yield target


def _is_of(file: str, directory: Path) -> bool:
    """Whether a file is in the directory: by path, else by the place it has below another mount of the same files."""
    path = Path(file)
    with suppress(OSError):
        if path.parent == directory.resolve():
            return True
    return path.parts[-3:-1] == directory.resolve().parts[-2:]


def _program(process: Path) -> str:
    try:
        name = (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = ""
    return "".join(letter if letter.isprintable() else "?" for letter in name) or "unknown program"
