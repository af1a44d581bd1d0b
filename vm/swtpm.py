"""A TPM 2.0 in software, for a machine that QEMU runs."""

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from vm.errors import VmError, require
from vm.kernels import cached

__all__ = ["TIED", "Swtpm"]

START_LIMIT = 10.0  # seconds
STATE_FILE = "tpm2-00.permall"
SETUP = """\
create_certs_tool = {tool}
create_certs_tool_config = {settings}/localca.conf
create_certs_tool_options = {settings}/localca.options
"""
LOCALCA = """\
statedir = {authority}
signingkey = {authority}/signkey.pem
issuercert = {authority}/issuercert.pem
certserial = {authority}/certserial
"""
TIED = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it ends when the thread that started it does, whatever happened to that."""


class Swtpm:
    """One swtpm process, for as long as the ``with`` block lasts, serving one QEMU.

    ``state`` is the directory that holds the TPM's non-volatile memory; an empty one is manufactured, with an
    endorsement key, its certificate, and banks sha1 and sha256. ``scratch`` takes the socket and the log.
    """

    def __init__(self, state: Path, scratch: Path) -> None:
        self.control = scratch / "tpm.sock"
        self._state = state.absolute()
        self._log = scratch / "swtpm.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require({"swtpm": "swtpm", "swtpm_setup": "swtpm-tools", "setpriv": "util-linux"})
        if not (self._state / STATE_FILE).exists():
            self._manufacture()
        command = (*TIED, "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}", "--terminate")
        control = ("--ctrl", f"type=unixio,path={self.control}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command + control, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while not self.control.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise VmError(f"swtpm does not start on {self._state}: {self._last_words()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if it has not ended by itself when QEMU went."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _manufacture(self) -> None:
        self._state.mkdir(parents=True, exist_ok=True)
        authority = cached("swtpm-ca")
        settings = self.control.parent
        (settings / "localca.options").write_text(
            "--platform-manufacturer imarium --platform-model vm --platform-version 1\n"
        )
        (settings / "localca.conf").write_text(LOCALCA.format(authority=authority))
        tool = shutil.which("swtpm_localca") or "swtpm_localca"
        (settings / "setup.conf").write_text(SETUP.format(tool=tool, settings=settings))
        command = ("swtpm_setup", "--tpm2", "--tpmstate", str(self._state), "--config", str(settings / "setup.conf"))
        options = ("--create-ek-cert", "--pcr-banks", "sha1,sha256", "--overwrite")
        with self._log.open("wb") as log:
            done = subprocess.run(command + options, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            raise VmError(f"swtpm_setup cannot make a TPM in {self._state}: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
