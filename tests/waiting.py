"""Waiting for what other threads and processes do: for long enough on a machine that is busy."""

import time
from collections.abc import Callable

__all__ = ["PATIENCE", "until"]

PATIENCE = 120.0
"""Seconds after which nobody believes any more that it will happen."""


def until(happened: Callable[[], object]) -> None:
    """Wait until it has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
