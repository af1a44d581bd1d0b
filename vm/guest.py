"""Shell scripts in guests, for tests: one call, one machine."""

from dataclasses import dataclass
from pathlib import Path

from vm.machine import Result, Setup, run

__all__ = ["Guest"]


@dataclass(frozen=True, slots=True)
class Guest:
    """Runs shell scripts as root, each in a machine of its own with this kernel."""

    kernel: Path

    def __call__(
        self,
        script: str,
        *,
        append: str = "",
        kernel: Path | None = None,
        share: Path | None = None,
        tpm: Path | None = None,
        disk: Path | None = None,
        memory: int = 1024,
        timeout: float = 240.0,
    ) -> Result:
        """Run a script and wait for the machine's end. The status is the caller's to check.

        The arguments are those of :class:`vm.machine.Setup`, ``timeout`` is in seconds.

        Raises:
            VmError: see :func:`vm.machine.run`.
        """
        setup = Setup(
            kernel=kernel or self.kernel,
            command=("/bin/sh", "-c", script),
            append=append,
            share=share,
            tpm=tpm,
            disk=disk,
            memory=memory,
        )
        return run(setup, timeout)
