"""A TPM simulator for the tests that need a TPM. A missing one makes them fail, saying how to install it."""

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 20.0
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Swtpm:
    """A running swtpm: its TCTI name, its server port (commands) and the port after it (control)."""

    tcti: str
    port: int
    state: Path


def two_free_ports() -> int:
    """The first of two neighbouring loopback ports: the swtpm TCTI looks for control at the one after commands."""
    for _ in range(200):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no two neighbouring loopback ports are free")


def start_swtpm(state: Path) -> tuple[subprocess.Popen[bytes], Swtpm]:
    """Starts swtpm with its state in ``state`` and waits until it listens."""
    program = shutil.which("swtpm")
    assert program is not None, "swtpm is missing: apt install swtpm swtpm-tools"
    assert importlib.util.find_spec("tpm2_pytss") is not None, (
        "tpm2-pytss is missing: apt install libtss2-dev && pip install 'imarium[tpm]'"
    )
    port = two_free_ports()
    log = state / "swtpm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={state}",
                "--server",
                f"type=tcp,bindaddr=127.0.0.1,port={port}",
                "--ctrl",
                f"type=tcp,bindaddr=127.0.0.1,port={port + 1}",
                "--flags",
                "not-need-init,startup-clear",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_SECONDS
    while not _listens(port + 1):
        if process.poll() is not None or time.monotonic() > deadline:
            stop_swtpm(process)
            raise AssertionError(f"swtpm does not run: {log.read_text(errors='replace')}")
        time.sleep(0.02)
    return process, Swtpm(f"swtpm:host=127.0.0.1,port={port}", port, state)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def stop_swtpm(process: subprocess.Popen[bytes]) -> None:
    """Ends this swtpm, and no other."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """A TPM of one's own, just started, with banks sha1, sha256, sha384 and sha512."""
    process, running = start_swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        yield running
    finally:
        stop_swtpm(process)


@pytest.fixture(scope="module")
def shared_swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """A TPM that all the tests of a module use, one after the other."""
    process, running = start_swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        yield running
    finally:
        stop_swtpm(process)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built from these sources."""
    assert shutil.which("dpkg-shlibdeps"), "dpkg-shlibdeps is missing: apt install dpkg-dev"
    command = [str(PROJECT / "packaging" / "build-deb"), str(tmp_path_factory.mktemp("package"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
