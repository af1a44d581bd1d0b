"""Guests: virtual machines with a real kernel and a TPM, to run commands in. They fail where one cannot be had."""

import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vm.guest import Guest
from vm.kernels import LATESYNC, STAGING, kernel


@pytest.fixture(scope="session")
def staging_kernel() -> Path:
    """A kernel that exports and deletes measurements. Building it, where it must be, takes minutes."""
    return kernel(STAGING)


@pytest.fixture(scope="session")
def latesync_kernel() -> Path:
    """The same, with IMA initialised at late_initcall_sync."""
    return kernel(LATESYNC)


@pytest.fixture(scope="session")
def guest(staging_kernel: Path) -> Guest:
    """Runs scripts in guests: ``guest("uname -r").console``."""
    return Guest(staging_kernel)


@pytest.fixture(scope="session")
def guest_python() -> str:
    """The start of a shell command that runs this Python, with this project's package, inside a guest."""
    found = importlib.util.find_spec("imarium")
    assert found is not None and found.origin is not None, "imarium cannot be imported: pip install -e ."
    source = Path(found.origin).parents[1]
    return shlex.join(("env", f"PYTHONPATH={source}", "PYTHONDONTWRITEBYTECODE=1", sys.executable))


@pytest.fixture(scope="session")
def guest_imarium(guest_python: str) -> str:
    """The start of a shell command that runs the project's command line inside a guest."""
    return f"{guest_python} -m imarium"


@pytest.fixture(scope="session")
def session_with_a_disk(
    guest: Guest, guest_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """Runs ``NAME_session.py`` in a guest with a disk, whose policy measures what root does; what it found out."""

    def run(name: str) -> dict[str, Any]:
        share = tmp_path_factory.mktemp(name)
        disk = share / "disk"
        with disk.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", disk], check=True)
        session = Path(__file__).with_name(f"{name}_session.py")
        command = f"{guest_python} {shlex.quote(str(session))}"
        done = guest(command, append="ima_policy=tcb", share=share, disk=disk, timeout=280)
        assert done.status == 0, done.console
        return dict(json.loads((share / "out.json").read_text()))

    return run
