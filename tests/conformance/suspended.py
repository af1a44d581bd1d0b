"""What is left of the interface once measuring is suspended for a kexec, and what the next kernel has.

Not part of the suite: a list that is suspended stays so, and each state of it needs a life of its own.
"""

import os
from functools import partial
from typing import Any

from tests.conformance.bench import RD, RW, WR, Bench, command, in_process, opens, outcome, read
from tests.conformance.checks.states import COMMANDS

STATES = ("both", "current", "staged", "empty")


def before(bench: Bench, state: str) -> dict[str, Any]:
    """Bring the lists into a state; what they are."""
    bench.begin(f"suspended-{state}")
    bench.arrange(state)
    return {"before": bench.counters()}


def during(bench: Bench) -> dict[str, Any]:
    """Everything that can be asked of a suspended list. What changes something comes last."""
    lists = [read(bench.plain), read(bench.staged)]
    violations = read(bench.root / "violations")
    results: dict[str, Any] = {"counters": bench.counters()}
    for name, (target, text) in COMMANDS.items():
        results[name] = outcome(command, bench.staged if target == "staged" else bench.plain, text)
    results["opening"] = [opens(path, mode) for path in (bench.plain, bench.staged) for mode in (RD, WR, RW)]
    descriptor = os.open(bench.staged, WR)
    results["locked"] = [in_process(partial(opens, bench.plain, mode)) for mode in (RD, WR)]
    os.close(descriptor)
    bench.measure(2)
    results["measured"] = bench.counters()
    bench.violate()
    results["violated"] = [bench.counters(), int(read(bench.root / "violations")) - int(violations)]
    results["unchanged"] = [read(bench.plain), read(bench.staged)] == lists
    return results


def restored(bench: Bench) -> dict[str, Any]:
    """What the next life begins with: names of records, in their order, and whether known ones are measured again."""
    names = [line.split(b" ")[4].decode() for line in read(bench.file("ascii")).splitlines()]
    results: dict[str, Any] = {
        "counters": bench.counters(),
        "names": names,
        "violations": read(bench.root / "violations").decode(),
    }
    bench.name = names[0].rpartition("/")[2].rpartition("-")[0] if "/" in names[0] else "suspended-none"
    for label in ("1", "2", "1"):
        bench.measure_file(bench.make(label))
    results["measured again"] = bench.counters()
    return results
