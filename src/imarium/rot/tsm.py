"""Any device with measurement registers (tsm-mr, Linux 6.16), as it is: registers, and no quote."""

from pathlib import Path

from imarium.errors import MissingComponent, UsageError
from imarium.registers import Provider, TsmRegisters, discover
from imarium.rot.options import split_options
from imarium.rot.register_root import RegisterRoot

__all__ = ["TsmRoot", "first_device", "measurements", "tsm_root"]


class TsmRoot(RegisterRoot):
    """The registers of one device; so a new device works before it has a driver."""

    name = "tsm"
    kind = "tsm"


def measurements(place: str) -> Provider:
    """The registers of a device by its name, or in a directory where ``place`` has a slash."""
    return TsmRegisters(Path(place) if "/" in place else place)


def first_device() -> str:
    """The first device of this machine that has registers, or nothing."""
    return next(iter(discover()), "")


def tsm_root(argument: str) -> TsmRoot:
    """``DEVICE[,register=NAME]``, or a directory for DEVICE. Raises UsageError, MissingComponent."""
    device, options = split_options("tsm", argument, ("register",))
    if not device:
        found = ", ".join(discover())
        if not found:
            raise MissingComponent(
                "no device of this machine has measurement registers: load one's driver (Linux 6.16)"
            )
        raise UsageError(f"name the device: tsm:DEVICE; devices with registers: {found}")
    return TsmRoot(measurements(device), options.get("register", ""))
