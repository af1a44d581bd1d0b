"""One virtual machine: a kernel under QEMU, a TPM, this machine's root file system, and one command.

    with Machine(Setup(kernel=kernel(), command=("uname", "-r"))) as machine:
        done = machine.wait(timeout=60)

The ``with`` block owns QEMU and swtpm: however it is left, both are gone. :meth:`Machine.wait_for` and
:meth:`Machine.cut_power` are for tests of what survives a power cut.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from vm import initrd
from vm.accel import Accel, Choice, choose
from vm.errors import GuestError, GuestTimeout, VmError, require
from vm.kernels import PROJECT
from vm.swtpm import TIED, Swtpm

__all__ = ["Machine", "Result", "Setup", "run"]

BUSYBOX = Path("/bin/busybox")
KERNEL_ARGUMENTS = "console=ttyS0 quiet loglevel=3 panic=-1"
SETTLE = 10.0  # seconds that QEMU and its output get to end once one of them has


def _environment() -> Mapping[str, str]:
    return {
        "HOME": os.environ.get("HOME", "/root"),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What machine, and what to do in it.

    ``tpm`` is the directory of the TPM's state, ``None`` for a new TPM; ``disk`` a raw image, ``/dev/vda`` inside;
    ``share`` a directory, ``/shared`` inside, writable; ``memory`` is in MiB. ``visible`` are directories that are to
    be seen inside under their own names even where they lie below ``/tmp`` or another directory that starts empty.
    """

    kernel: Path
    command: tuple[str, ...]
    append: str = ""
    tpm: Path | None = None
    disk: Path | None = None
    share: Path | None = None
    memory: int = 1024
    accel: Choice = "auto"
    environment: Mapping[str, str] = field(default_factory=_environment)
    visible: tuple[Path, ...] = (PROJECT, Path(sys.prefix))


@dataclass(frozen=True, slots=True)
class Result:
    """How the command ended (128 + the signal's number if by one), and all that the console showed."""

    status: int
    console: str


class Machine:
    """A running machine. Use it in a ``with`` block, from one thread, which must live as long as the machine does.

    ``output`` gets every chunk the console prints, as it comes, on another thread.
    """

    def __init__(self, setup: Setup, output: Callable[[bytes], object] | None = None) -> None:
        self.setup = setup
        self._output = output
        self._stack = ExitStack()
        self._printed = bytearray()
        self._news = threading.Condition()
        self._ended = False

    def __enter__(self) -> Self:
        require({"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"})
        if not BUSYBOX.exists():
            raise VmError(f"{BUSYBOX} not found: apt-get install busybox-static")
        for path in filter(None, (self.setup.kernel, self.setup.disk, self.setup.share)):
            if not path.exists():
                raise VmError(f"no such file or directory: {path}")
        accel = choose(self.setup.accel, self.setup.kernel)
        with self._stack as stack:
            self._work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imarium-vm-")))
            self._boot_directory()
            tpm = stack.enter_context(Swtpm(self.setup.tpm or self._work / "tpm", self._work))
            self._start(self._qemu(accel, tpm.control))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The process of QEMU."""
        return self._process.pid

    @property
    def console(self) -> str:
        """What the console has shown so far."""
        with self._news:
            return self._printed.decode(errors="replace").replace("\r", "")

    def wait(self, timeout: float) -> Result:
        """Wait until the machine has switched itself off.

        Raises:
            GuestError: it did not within ``timeout`` seconds, the kernel panicked, or QEMU failed.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._ended, timeout):
                raise GuestTimeout(f"the machine still runs after {timeout:g} s: give it more time", self.console)
        try:
            code = self._process.wait(SETTLE)
        except subprocess.TimeoutExpired:
            raise GuestError("QEMU closed its console but went on", self.console) from None
        self._reader.join(SETTLE)
        said = re.findall(r"^status (\d+)\r?$", self._said(), re.MULTILINE)
        if said and code == 0:
            return Result(int(said[-1]), self.console)
        raise GuestError(self._why(code), self.console)

    def wait_for(self, text: str, timeout: float) -> None:
        """Wait until the console has shown ``text``.

        Raises:
            GuestError: it did not within ``timeout`` seconds, or the machine ended without showing it.
        """
        wanted = text.encode()
        with self._news:
            seen = self._news.wait_for(lambda: wanted in self._printed or self._ended, timeout)
            if wanted in self._printed:
                return
        if not seen:
            raise GuestTimeout(f"no {text!r} on the console after {timeout:g} s", self.console)
        raise GuestError(f"the machine ended and its console never showed {text!r}", self.console)

    def cut_power(self) -> None:
        """Kill QEMU, now. What the guest had not written to its disk is lost; the TPM's registers too."""
        self._process.kill()
        self._process.wait()

    def _boot_directory(self) -> None:
        """What the guest finds at /run/vm: the kernel and RAM disk it was booted from, for kexec."""
        boot = self._work / "boot"
        boot.mkdir(mode=0o755)
        shutil.copyfile(self.setup.kernel, boot / "bzImage")
        command = initrd.command_script(self.setup.command, self.setup.environment)
        (boot / "initrd").write_bytes(initrd.archive(BUSYBOX, command, self.setup.visible))

    def _qemu(self, accel: Accel, tpm: Path) -> list[str]:
        setup, boot = self.setup, self._work / "boot"
        append = KERNEL_ARGUMENTS + (" imarium.share " if setup.share else " ") + setup.append
        command = [*TIED, "qemu-system-x86_64", *accel.arguments, "-smp", "2", "-m", str(setup.memory)]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-serial", "stdio", "-serial", f"file:{self._work / 'said'}"]
        command += ["-kernel", str(boot / "bzImage"), "-initrd", str(boot / "initrd"), "-append", append]
        command += ["-virtfs", _shared("root", Path("/"), readonly=True)]
        command += ["-virtfs", _shared("vm", boot, readonly=True)]
        command += ["-chardev", f"socket,id=tpm,path={_quoted(tpm)}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        command += ["-device", "tpm-tis,tpmdev=tpm0", "-device", "virtio-rng-pci"]
        if setup.share:
            command += ["-virtfs", _shared("share", setup.share.absolute(), readonly=False)]
        if setup.disk:
            command += ["-drive", f"file={_quoted(setup.disk.absolute())},format=raw,if=virtio,cache=writeback"]
        return command

    def _start(self, command: list[str]) -> None:
        with (self._work / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self._stack.callback(self.cut_power)
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with self._process.stdout as console:
            while chunk := os.read(console.fileno(), 65536):
                with self._news:
                    self._printed += chunk
                    self._news.notify_all()
                if self._output is not None:
                    self._output(chunk)
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _said(self) -> str:
        """What the guest told the host on the second serial port."""
        said = self._work / "said"
        return said.read_text(errors="replace") if said.exists() else ""

    def _why(self, code: int) -> str:
        """Why the machine ended without a status, in one line."""
        if panic := re.search("Kernel panic - .*", self.console):
            return f"the kernel panicked: {panic[0]}"
        if failed := re.search("^failed (.*?)\r?$", self._said(), re.MULTILINE):
            return f"the guest's start failed: {failed[1]}"
        if code < 0:
            return f"QEMU was ended by {signal.Signals(-code).name}"
        if code:
            last = (self._work / "qemu.log").read_text(errors="replace").strip().rpartition("\n")[2]
            return f"QEMU ended with status {code}: {last or 'it says nothing'}"
        if initrd.COMMAND_STARTS not in self._said():
            return "the machine switched off before the command started: is the kernel fit for vm/run?"
        return "the machine was reset or switched off before the command had ended"


def run(setup: Setup, timeout: float, output: Callable[[bytes], object] | None = None) -> Result:
    """Start a machine, wait until it ends, and leave nothing behind.

    Raises:
        VmError: something that it needs is missing.
        GuestError: see :meth:`Machine.wait`.
    """
    with Machine(setup, output) as machine:
        return machine.wait(timeout)


def _shared(tag: str, path: Path, *, readonly: bool) -> str:
    mode = "on" if readonly else "off"
    return f"local,path={_quoted(path)},mount_tag={tag},security_model=none,multidevs=remap,readonly={mode}"


def _quoted(path: Path) -> str:
    """A path inside one of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")
