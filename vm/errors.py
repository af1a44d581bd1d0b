"""What goes wrong around a virtual machine, as one-line errors that say what to do next."""

import shutil
from collections.abc import Mapping

__all__ = ["GuestError", "GuestTimeout", "MissingPackage", "VmError", "require"]

TAIL = 3000  # characters


class VmError(Exception):
    """Anything that keeps a kernel from being built or a machine from running. ``str()`` of it is one line."""


class MissingPackage(VmError):
    """Programs that are not installed. ``packages`` are the Debian packages that have them."""

    def __init__(self, programs: Mapping[str, str]) -> None:
        self.packages = tuple(sorted(set(programs.values())))
        super().__init__(f"{', '.join(programs)} not found: apt-get install {' '.join(self.packages)}")


class GuestError(VmError):
    """The machine ended, or was ended, before its command did. ``console`` is the tail of what it printed."""

    def __init__(self, what: str, console: str = "") -> None:
        self.console = console[-TAIL:]
        super().__init__(what)
        if self.console:
            self.add_note(f"the end of the console:\n{self.console}")


class GuestTimeout(GuestError):
    """The machine took longer than it was given."""


def require(programs: Mapping[str, str]) -> None:
    """Check that programs (name: Debian package) are installed.

    Raises:
        MissingPackage: some are not; all of them are named.
    """
    missing = {name: package for name, package in programs.items() if shutil.which(name) is None}
    if missing:
        raise MissingPackage(missing)
