"""The command line as a program, and what it left behind."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

LIMIT = 120
"""Seconds that a command may take."""


@dataclass(frozen=True)
class Done:
    """What a program left behind."""

    status: int
    out: str
    error: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def codes(self) -> list[str]:
        return [reason["code"] for reason in self.document["reasons"]]


def imarium(*arguments: object) -> Done:
    """Runs ``imarium``, whatever its exit status will be."""
    command = [sys.executable, "-m", "imarium", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)
