"""The kernel's column: making it, and the one that was recorded.

``python3 -m tests.conformance.record`` boots the kernel and records anew.
"""

import sys
from pathlib import Path

from vm.guest import Guest
from vm.kernels import STAGING, kernel

RECORDED = Path(__file__).with_name("kernel-7.3")
BOOTS = {"plain": "", "flush": "ima_flush_htable"}
"""Each boot by the kernel arguments that it has more."""

SESSION = Path(__file__).with_name("kernel.py")


def boot_kernels(guest: Guest, python: str, results: Path) -> None:
    """Make all checks on the kernel, in two boots. Raises AssertionError with the console for what went wrong."""
    for boot, arguments in BOOTS.items():
        done = guest(f"{python} {SESSION} {boot}", append=arguments, share=results, timeout=280)
        assert done.status == 0, done.console


if __name__ == "__main__":
    RECORDED.mkdir(exist_ok=True)
    boot_kernels(Guest(kernel(STAGING)), f"env PYTHONDONTWRITEBYTECODE=1 {sys.executable} -S", RECORDED)
