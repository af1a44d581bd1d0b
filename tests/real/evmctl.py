"""Debian's evmctl as a peer: whether it accepts a binary list against register values."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from imarium.hashes import HashAlgorithm


def evmctl(path: Path, values: Mapping[HashAlgorithm, bytes], place: Path) -> int:
    """The status of ``evmctl ima_measurement``, which compares its replay with these values of PCR 10."""
    program = shutil.which("evmctl")
    assert program is not None, "evmctl is missing: apt install ima-evm-utils"
    command = [program, "ima_measurement", "--ignore-violations"]
    for bank, value in values.items():
        lines = [f"PCR-{n:02}: {(value if n == 10 else bytes(bank.size)).hex(' ').upper()}\n" for n in range(24)]
        (place / bank.name).write_text("".join(lines))
        command += ["--pcrs", f"{bank.name},{place / bank.name}"]
    return subprocess.run([*command, path], capture_output=True, check=False).returncode
