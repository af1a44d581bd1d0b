"""What commands print: one JSON document, or text and tables for people, on standard output."""

import json
import sys
from typing import TextIO

from rich.console import Console

__all__ = ["console", "emit_json", "progress_console"]

_UNBROKEN = 4096
"""Columns where there is no terminal that knows its size: wider than any line, so that none is broken."""


def emit_json(document: object) -> None:
    """Print one JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """A console on standard output: colours and tables on a terminal, plain unbroken lines elsewhere."""
    return _console(sys.stdout)


def progress_console() -> Console:
    """A console on standard error, where progress bars and warnings go."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return console
    return Console(file=stream, highlight=False, soft_wrap=True, width=_UNBROKEN, height=_UNBROKEN)
