"""A TPM simulator for the tests that need a TPM. A missing one makes them fail, saying how to install it."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imarium.rot.swtpm import OwnSwtpm

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Swtpm:
    """A running swtpm: its TCTI name, its server port (commands) and the port after it (control)."""

    tcti: str
    port: int
    state: Path


def start_swtpm(state: Path) -> tuple[OwnSwtpm, Swtpm]:
    """Starts swtpm with its state in ``state`` and waits until it listens."""
    assert importlib.util.find_spec("tpm2_pytss") is not None, (
        "tpm2-pytss is missing: apt install libtss2-dev && pip install 'imarium[tpm]'"
    )
    own = OwnSwtpm(state)
    tcti = own.start()
    return own, Swtpm(tcti, int(tcti.rpartition("=")[2]), state)


@pytest.fixture
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """A TPM of one's own, just started, with banks sha1, sha256, sha384 and sha512."""
    own, running = start_swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        yield running
    finally:
        own.stop()


@pytest.fixture(scope="module")
def shared_swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """A TPM that all the tests of a module use, one after the other."""
    own, running = start_swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        yield running
    finally:
        own.stop()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built from these sources."""
    assert shutil.which("dpkg-shlibdeps"), "dpkg-shlibdeps is missing: apt install dpkg-dev"
    command = [str(PROJECT / "packaging" / "build-deb"), str(tmp_path_factory.mktemp("package"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
