"""The checks on a real kernel: what runs inside a guest, as root, with results in /shared.

``python3 kernel.py plain`` makes all checks, then suspends measuring by a kexec, in each state of the lists in turn:
the next kernel goes on with the next state. ``python3 kernel.py flush`` is for a kernel with ``ima_flush_htable``.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conformance.bench import WORKPLACE, Bench, checked, libc
from tests.conformance.causes import POLICY, Reading
from tests.conformance.suite import run
from tests.conformance.suspended import STATES, before, during, restored

IMA = Path("/sys/kernel/security/ima")
SHARED = Path("/shared")
_KEXEC_FILE_LOAD, _REBOOT_MAGIC, _REBOOT_MAGIC_2, _REBOOT_KEXEC = 320, 0xFEE1DEAD, 672274793, 0x45584543
_UNKNOWN_FAMILY = 9
_PATIENCE = 30.0
_SETTLED = 0.3


def _save(name: str, results: Any) -> None:
    (SHARED / f"{name}.json").write_text(json.dumps(results))


def _suspend(bench: Bench, state: str, following: int) -> None:
    """Start the next kernel, and look at the files after measuring was suspended for it.

    Between the two the kernel waits some seconds for a helper program that it has started itself: here its loader of
    modules, which does not end.
    """
    helper = WORKPLACE / "helper"
    helper.write_text("#!/bin/sh\nexec sleep 60\n")
    helper.chmod(0o755)
    Path("/proc/sys/kernel/modprobe").write_text(str(helper))
    threading.Thread(target=_ask_for_a_module, daemon=True).start()
    seen: dict[str, Any] = before(bench, state)
    _load(f"{Path('/proc/cmdline').read_text().strip()} conformance.state={following}")
    while not subprocess.run(["pgrep", "-f", "sleep 60"], capture_output=True, check=False).stdout:
        time.sleep(0.05)
    thread = threading.Thread(target=_reboot, daemon=True)
    thread.start()
    _wait_until_it_waits(thread)
    _save(f"suspended-{state}", seen | during(bench))
    time.sleep(_PATIENCE)
    raise RuntimeError("the next kernel does not come")


def _ask_for_a_module() -> None:
    try:
        socket.socket(_UNKNOWN_FAMILY, socket.SOCK_STREAM)
    except OSError:
        return


def _wait_until_it_waits(thread: threading.Thread) -> None:
    """The kernel has told everyone of the restart, and measuring is suspended: its task sleeps for long."""
    deadline = time.monotonic() + _PATIENCE
    since = None
    while since is None or time.monotonic() - since < _SETTLED:
        if time.monotonic() > deadline:
            raise RuntimeError("the kernel does not wait for its helper")
        asleep = ") D " in Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        since = (since or time.monotonic()) if asleep else None
        time.sleep(0.01)


def _load(arguments: str) -> None:
    kernel, initrd = (os.open(f"/run/vm/{name}", os.O_RDONLY) for name in ("bzImage", "initrd"))
    text = arguments.encode() + b"\0"
    checked(libc().syscall(_KEXEC_FILE_LOAD, kernel, initrd, len(text), ctypes.c_char_p(text), 0))


def _reboot() -> None:
    libc().syscall(169, _REBOOT_MAGIC, _REBOOT_MAGIC_2, _REBOOT_KEXEC, 0)


def _turn() -> int:
    """How many kernels came before this one."""
    turns = [int(word.partition("=")[2]) for word in Path("/proc/cmdline").read_text().split() if "conformance" in word]
    return max(turns, default=0)


def main(boot: str) -> None:
    """One boot, or one of a chain."""
    bench = Bench(IMA, Reading())
    turn = _turn()
    WORKPLACE.mkdir(exist_ok=True)
    (IMA / "policy").write_text(POLICY)
    if turn:
        _save(f"restored-{STATES[turn - 1]}", restored(bench))
    if not turn:
        results, seconds = run(bench)
        _save(boot, results)
        _save(f"{boot}-seconds", seconds)
    if boot == "plain" and turn < len(STATES):
        _suspend(bench, STATES[turn], turn + 1)


if __name__ == "__main__":
    main(sys.argv[1])
