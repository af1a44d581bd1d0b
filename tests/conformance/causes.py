"""Causing measurements by what is measured anywhere: files that are read. The policy is about files of one owner."""

import os
from pathlib import Path

MEASURED = 4242
"""The owner of files to be measured: nothing else that runs beside the checks has such files."""

POLICY = f"measure func=FILE_CHECK mask=MAY_READ fowner={MEASURED}\n"


class Reading:
    """Causes for a bench whose kernel, or engine, has this policy."""

    def measure(self, path: Path) -> None:
        """Read the file."""
        os.chown(path, MEASURED, 0)
        path.read_bytes()

    def violate(self, path: Path) -> None:
        """Read the file while it is open for writing."""
        os.chown(path, MEASURED, 0)
        with path.open("r+b"):
            path.read_bytes()
