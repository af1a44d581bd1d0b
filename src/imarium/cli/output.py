"""What commands print: one JSON document, or text and tables for people, on standard output."""

import json
import sys

from rich.console import Console

__all__ = ["console", "emit_json", "progress_console"]


def emit_json(document: object) -> None:
    """Print one JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """A console on standard output: colours and tables on a terminal, plain text elsewhere."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def progress_console() -> Console:
    """A console on standard error, where progress bars and warnings go."""
    return Console(stderr=True, highlight=False)
