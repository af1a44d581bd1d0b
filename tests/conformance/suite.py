"""All checks, by name, and running them."""

import importlib
import time
import traceback
from collections.abc import Callable, Container
from typing import Any

from tests.conformance.bench import Bench

Check = Callable[[Bench], Any]

MODULES = (
    "names",
    "opening",
    "states",
    "texts",
    "locks",
    "sharing",
    "reading",
    "seeking",
    "records",
    "shell",
    "policy",
    "limits",
)


LIMITS = "limit_"
"""Begins the names of checks that have two right answers, see :mod:`tests.conformance.checks.limits`."""

FAILED = "failed: "
"""Begins what is noted for a check that could not be made. Two of them are not equal."""


def checks() -> dict[str, Check]:
    """Every check by its name, in the order they are made in."""
    found: dict[str, Check] = {}
    for module in MODULES:
        for name, check in importlib.import_module(f"tests.conformance.checks.{module}").CHECKS.items():
            if name in found:
                raise ValueError(f"two checks are called {name}")
            found[name] = check
    return found


def run(bench: Bench, chosen: Container[str] | None = None) -> tuple[dict[str, Any], dict[str, float]]:
    """Make all checks, or the chosen ones: what was observed, and how many seconds each took."""
    results: dict[str, Any] = {}
    seconds = {}
    for name, check in checks().items():
        if chosen is None or name in chosen:
            began = time.monotonic()
            try:
                bench.begin(name)
                results[name] = check(bench)
            except Exception:  # noqa: BLE001 - the other checks are to be made all the same
                results[name] = FAILED + traceback.format_exc()
            seconds[name] = round(time.monotonic() - began, 3)
    return results, seconds
