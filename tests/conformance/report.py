"""Two runs beside each other: what was observed on the kernel and on the engine, check by check.

``python3 -m tests.conformance.report KERNEL ENGINE`` prints the report of two directories of results.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.limits import LIMIT_ANSWERS, Limit
from tests.conformance.suite import FAILED, LIMITS

_WIDTH = 58
_SECONDS = "-seconds"


@dataclass(frozen=True)
class Row:
    """One check. A missing result is None."""

    name: str
    kernel: Any
    engine: Any
    limit: Limit | None

    @property
    def good(self) -> bool:
        """Whether both are the same, or, for a limit, what each is known to be."""
        if any(result is None or str(result).startswith(FAILED) for result in (self.kernel, self.engine)):
            return False
        if self.limit is None:
            return bool(self.kernel == self.engine)
        kernel, engine = self.limit
        return self.kernel == kernel and self.engine in engine


@dataclass(frozen=True)
class Report:
    """All checks of two runs."""

    rows: tuple[Row, ...]

    @property
    def checks(self) -> list[Row]:
        """Those that must be the same."""
        return [row for row in self.rows if row.limit is None]

    @property
    def limits(self) -> list[Row]:
        """Those that are known not to be."""
        return [row for row in self.rows if row.limit is not None]

    @property
    def bad(self) -> list[Row]:
        """Those that are not as they must be."""
        return [row for row in self.rows if not row.good]

    def __str__(self) -> str:
        lines = [f"{'':2} {'check':<62} {'kernel':<{_WIDTH}} engine"]
        for row in self.rows:
            mark = ("=" if row.limit is None else "~") if row.good else "!"
            lines.append(f"{mark:2} {row.name:<62} {_short(row.kernel):<{_WIDTH}} {_short(row.engine)}")
        for row in self.bad:
            lines += [f"\n{row.name}", f"  kernel: {json.dumps(row.kernel)}", f"  engine: {json.dumps(row.engine)}"]
        same = sum(row.good for row in self.checks)
        known = sum(row.good for row in self.limits)
        lines.append(f"{same} of {len(self.checks)} checks equal; {known} of {len(self.limits)} limits as known")
        return "\n".join(lines)


def compare(kernel: Path, engine: Path, limits: dict[str, Limit]) -> Report:
    """The report of two directories of results."""
    theirs, ours = results(kernel), results(engine)
    rows = []
    for name in sorted(theirs.keys() | ours.keys()):
        check = name.partition(": ")[2]
        limit = limits.get(check, (None, ())) if check.startswith(LIMITS) else None
        rows.append(Row(name, theirs.get(name), ours.get(name), limit))
    return Report(tuple(rows))


def results(directory: Path) -> dict[str, Any]:
    """Every result of a run, by ``BOOT: CHECK``."""
    found: dict[str, Any] = {}
    for path in sorted(directory.glob("*.json")):
        if not path.stem.endswith(_SECONDS):
            found |= {f"{path.stem}: {name}": result for name, result in json.loads(path.read_bytes()).items()}
    return found


def _short(result: Any) -> str:
    text = json.dumps(result)
    return text if len(text) < _WIDTH else text[: _WIDTH - 4] + "..."


if __name__ == "__main__":
    report = compare(Path(sys.argv[1]), Path(sys.argv[2]), LIMIT_ANSWERS)
    print(report)
    sys.exit(bool(report.bad))
