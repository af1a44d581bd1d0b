"""What happens inside the guest in the test of kexecs: one kernel after the other, results in /shared/KERNEL.json.

Each kernel but the first drains what the last one left, and says what is kept and what the registers hold. Each but the
last then leaves its lists in another state, and starts the next.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from imarium.chain import ChainState
from imarium.custody import Custody, Keeper, Step, Store, kill_at
from imarium.custody.machine import boot_id, registers_of
from imarium.custody.proof import prove
from imarium.formats.registers import IMA_PCR
from imarium.securityfs import ImaDirectory

SHARED = Path("/shared")
STORE = SHARED / "store"
IMA = ImaDirectory(patience=5.0)
REGISTERS = registers_of(IMA.path)
PROGRAMS = Path("/opt/imarium-test")
KEXEC_FILE_LOAD, REBOOT_KEXEC = 320, 0x45584543


def measured(name: str) -> None:
    """Run a program that was never run before, so that it is measured."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    path = PROGRAMS / name
    shutil.copy("/bin/true", path)
    with path.open("ab") as file:
        file.write(name.encode())
    subprocess.run([path], check=True)


def keeper(step: Step | None = None) -> Keeper:
    store = Store(STORE, create=True)
    return Keeper(store, IMA, boot_id=boot_id(), registers=REGISTERS, hook=kill_at(step))


def killed_at(step: Step) -> None:
    """Drain in a child that is killed at a step."""
    child = os.fork()
    if child == 0:
        keeper(step).once("prompt")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{step} was not reached"


def staged() -> None:
    """Records are staged, nothing of them is kept."""
    killed_at(Step.STAGED)
    measured("behind-staged")


def kept() -> None:
    """Records are staged and kept, and not deleted."""
    killed_at(Step.JOURNALED)
    measured("behind-kept")


def deleted() -> None:
    """All is kept and deleted."""
    keeper().once("prompt")


def partly() -> None:
    """Some are kept and deleted, some staged by someone else, some current."""
    keeper().once("prompt")
    measured("staged-by-other")
    IMA.stage()
    measured("current")


LEFT: tuple[Callable[[], None], ...] = (staged, kept, deleted, partly)


def found() -> dict[str, object]:
    """Drain what there is, and compare what is kept, and pending behind it, with the registers."""
    result = keeper().once("prompt")
    values = REGISTERS([IMA_PCR])
    whole = Custody(STORE).whole(IMA, boot_id=boot_id(), registers=REGISTERS)
    data = b"".join(whole.blocks())
    proof = prove([data], (), whole.layout, start=ChainState(), values=values)
    return {
        "result": result.to_document(),
        "boot": boot_id(),
        "whole": data.hex(),
        "complete": proof.complete or proof.reached,
        "registers": {bank.name: value.hex() for bank, value in values[IMA_PCR].items()},
    }


def start_kernel(number: int) -> None:
    """Go on in another kernel, which is the same, and knows its number."""
    libc = ctypes.CDLL(None, use_errno=True)
    line = re.sub(r" kernel=\d+", "", Path("/proc/cmdline").read_text().strip()) + f" kernel={number}"
    with Path("/run/vm/bzImage").open() as kernel, Path("/run/vm/initrd").open() as initrd:
        command = line.encode() + b"\0"
        files = kernel.fileno(), initrd.fileno()
        if libc.syscall(KEXEC_FILE_LOAD, *files, ctypes.c_ulong(len(command)), command, ctypes.c_ulong(0)):
            raise SystemExit(os.strerror(ctypes.get_errno()))
    os.sync()
    libc.reboot(ctypes.c_int(REBOOT_KEXEC))


def main() -> None:
    told = re.search(r" kernel=(\d+)", Path("/proc/cmdline").read_text())
    number = int(told[1]) if told else 0
    if number:
        (SHARED / f"{number}.json").write_text(json.dumps(found()))
    if number < len(LEFT):
        measured(f"before-{LEFT[number].__name__}")
        LEFT[number]()
        start_kernel(number + 1)


if __name__ == "__main__":
    main()
