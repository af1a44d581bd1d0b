"""All checks on any directory that has the interface.

    python3 -m tests.conformance.run /run/ima > results.json

A measurement is caused by reading a file of the owner 4242, for which the policy must have a rule, such as
``measure func=FILE_CHECK mask=MAY_READ fowner=4242``; or by a command, which gets the file's path as its last argument.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conformance.bench import WORKPLACE, Bench
from tests.conformance.causes import Reading
from tests.conformance.suite import FAILED, checks, run


class Commands(Reading):
    """Causes that are programs. What has none is done by reading."""

    def __init__(self, measure: str | None, violate: str | None) -> None:
        self._measure = measure
        self._violate = violate

    def measure(self, path: Path) -> None:
        """Run the command for a measurement."""
        self._cause(self._measure, path, super().measure)

    def violate(self, path: Path) -> None:
        """Run the command for a violation."""
        self._cause(self._violate, path, super().violate)

    @staticmethod
    def _cause(command: str | None, path: Path, otherwise: Callable[[Path], None]) -> None:
        if command is None:
            otherwise(path)
        else:
            subprocess.run([*shlex.split(command), str(path)], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print the results; 1 if a check could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--measure", metavar="COMMAND", help="lets a file be measured")
    parser.add_argument("--violate", metavar="COMMAND", help="causes a violation with a file")
    parser.add_argument("--check", metavar="NAME", action="append", choices=checks(), help="only this; may be repeated")
    options = parser.parse_args()
    WORKPLACE.mkdir(exist_ok=True)
    results, _ = run(Bench(options.directory, Commands(options.measure, options.violate)), options.check)
    json.dump(results, sys.stdout, indent=1)
    return int(any(str(result).startswith(FAILED) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
