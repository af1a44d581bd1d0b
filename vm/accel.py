"""How QEMU runs the guest's code: with KVM where that truly works, else by emulation.

A ``/dev/kvm`` that can be opened proves little: under some hypervisors QEMU then fails or the guest hangs. So ``auto``
boots the kernel with KVM once, without a root, and takes its quick and expected panic for the proof. The outcome
is kept until the host is booted again.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vm.kernels import cached

__all__ = ["Accel", "Choice", "choose"]

Choice = Literal["auto", "kvm", "tcg"]
PROBE_LIMIT = 5.0  # seconds; a guest that runs on KVM panics within one
DEVICE = Path("/dev/kvm")


@dataclass(frozen=True, slots=True)
class Accel:
    """One way of running the guest's code: its name and QEMU's arguments."""

    name: str
    arguments: tuple[str, ...]


KVM = Accel("kvm", ("-accel", "kvm", "-cpu", "host"))
TCG = Accel("tcg", ("-accel", "tcg,thread=multi", "-cpu", "max"))


def choose(choice: Choice, kernel: Path) -> Accel:
    """The way to run ``kernel``; ``auto`` asks :func:`_kvm_works` at most once for each boot of the host."""
    if choice == "tcg" or (choice == "auto" and not os.access(DEVICE, os.R_OK | os.W_OK)):
        return TCG
    if choice == "kvm":
        return KVM
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cached("accel") / "known"
    if not known.exists() or not known.read_text().startswith(boot):
        known.write_text(f"{boot} {(KVM if _kvm_works(kernel) else TCG).name}\n")
    return KVM if known.read_text() == f"{boot} {KVM.name}\n" else TCG


def _kvm_works(kernel: Path) -> bool:
    command = ["qemu-system-x86_64", *KVM.arguments, "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"]
    command += ["-serial", "stdio", "-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_LIMIT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b"Kernel panic" in done.stdout
