"""A TPM simulator of our own: swtpm, with its state in a directory, ended with the thread that started it.

``setpriv --pdeathsig`` has the kernel end it also where that process is killed. The lock on the directory is inherited
by swtpm, so that it is held for as long as swtpm runs. It listens on the loopback address: any user of this machine
can reach it.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from imarium import durable
from imarium.errors import DeviceError, MissingComponent
from imarium.locks import locked
from imarium.rot.peer import listeners

__all__ = ["OwnSwtpm"]

_HOST = "127.0.0.1"
_PATIENCE = 10.0
_ATTEMPTS = 5
_PORT_ATTEMPTS = 200


class OwnSwtpm:
    """A simulator with its state in ``state``, which is made where it is not there. Not running until started."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._tcti = ""

    def start(self) -> str:
        """Its TCTI, once it answers. Twice does nothing more.

        Raises MissingComponent without swtpm or setpriv, or if the directory is another's, and DeviceError if it does
        not start.
        """
        if self._process is not None:
            return self._tcti
        for program in ("swtpm", "setpriv"):
            if shutil.which(program) is None:
                raise MissingComponent(f"{program} is not installed: apt install swtpm util-linux")
        durable.create_directory(self.state)
        busy = MissingComponent(f"{self.state}: another process runs a TPM here; choose another directory")
        with locked(self.state / "owner.lock", busy=busy) as lock:
            for _ in range(_ATTEMPTS):
                port = _two_ports()
                tcti = f"swtpm:host={_HOST},port={port}"
                if self._run(port, tcti, lock):
                    self._tcti = tcti
                    return tcti
        raise DeviceError(f"swtpm does not start; see {self.state / 'swtpm.log'}")

    @property
    def pid(self) -> int | None:
        """Its process, or None where it does not run."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End it. Twice does nothing."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _run(self, port: int, tcti: str, lock: int) -> bool:
        """Whether it answers at ``port``; False where it ended, since someone else took a port in between.

        Someone else may even answer there: whose port it is, the system says.
        """
        command = ["setpriv", "--pdeathsig", "TERM", "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"]
        command += ["--server", f"type=tcp,bindaddr={_HOST},port={port}"]
        command += ["--ctrl", f"type=tcp,bindaddr={_HOST},port={port + 1}"]
        command += ["--flags", "not-need-init,startup-clear"]
        with durable.storage_errors(self.state), (self.state / "swtpm.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,)
            )
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if _answers(port + 1) and process.pid in listeners(tcti):
                self._process = process
                return True
            time.sleep(0.02)
        _end(process)
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _two_ports() -> int:
    """The first of two free neighbouring ports: the TSS looks for the control port behind that of commands."""
    for _ in range(_PORT_ATTEMPTS):
        with socket.socket() as first, socket.socket() as second:
            first.bind((_HOST, 0))
            port = int(first.getsockname()[1])
            try:
                second.bind((_HOST, port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise MissingComponent(f"no two neighbouring ports of {_HOST} are free; end what uses them")
