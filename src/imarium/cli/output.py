"""What commands print: one JSON document, or text and tables for people, on standard output."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from rich.console import Console

from imarium.errors import MissingComponent

__all__ = ["byte_output", "console", "emit_json", "progress_console"]

_UNBROKEN = 4096
"""Columns where there is no terminal that knows its size: wider than any line, so that none is broken."""


def emit_json(document: object) -> None:
    """Print one JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


@contextmanager
def byte_output(path: Path | None) -> Iterator[IO[bytes]]:
    """The file, or standard output where None. Raises MissingComponent.

    A new file is for its owner alone: the kernel shows a list, which tells what ran, to root only.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MissingComponent(f"{path}: cannot be written: {error.strerror}; name another place") from error
    with os.fdopen(descriptor, "wb") as file:
        yield file


def console() -> Console:
    """A console on standard output: colours and tables on a terminal, plain unbroken lines elsewhere."""
    return _console(sys.stdout)


def progress_console() -> Console:
    """A console on standard error, where progress bars and warnings go."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # names of files hold any byte
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return console
    return Console(file=stream, highlight=False, soft_wrap=True, width=_UNBROKEN, height=_UNBROKEN)
