"""The command line as a program: started as a user starts it, and judged by what it prints and how it ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.vectors import vector_path

PROJECT = Path(__file__).resolve().parents[2]

LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: bytes
    err: str


Imarium = Callable[..., Ended]


@pytest.fixture(scope="session")
def imarium() -> Imarium:
    """Runs ``imarium`` with arguments, and bytes for standard input."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "imarium", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=LIMIT_SECONDS,
            env={**os.environ, "PYTHONPATH": str(PROJECT / "src"), "PYTHONWARNINGS": "error"},
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def dl160() -> Path:
    """A server's real list: 16,169 records, gzipped."""
    return vector_path("guard-oss-dl160/binary_runtime_measurements.gz")
