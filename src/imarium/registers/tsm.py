"""Measurement registers as the kernel shows them since 6.16: ``/sys/class/misc/DEVICE/measurements/NAME[:HASH]``.

Documentation/ABI/testing/sysfs-class-misc-tsm_mr_sample, drivers/virt/coco/guest/tsm-mr.c. A file holds the
register's bytes; where it is writable, one write of exactly that many bytes at offset 0 extends. The kernel cuts a
longer write to size, extends, and reports the short count, so that a buffered writer would write the rest and
extend again: here the length is checked first and there is one unbuffered write.
"""

import os
import stat
from pathlib import Path

from imarium import hashes
from imarium.chain import extend as chain_extend
from imarium.errors import MalformedInput, MissingComponent, UsageError
from imarium.registers.description import Access, Register
from imarium.registers.errors import ForeignExtend, RegisterError, RegisterReadOnly, device_error
from imarium.registers.provider import check_extend, check_store, identity_of

__all__ = ["CLASS", "TsmRegisters", "discover"]

CLASS = Path("/sys/class/misc")
_DIRECTORY = "measurements"


def discover(place: Path = CLASS) -> tuple[str, ...]:
    """The names of the devices that have measurement registers, sorted."""
    try:
        return tuple(sorted(device.name for device in place.iterdir() if (device / _DIRECTORY).is_dir()))
    except OSError:
        return ()


class TsmRegisters:
    """The registers of one device: ``device`` by its name, or the path of its directory of files.

    The kernel does not show the LIVE flag. Writable registers have it by definition; of others it is not known.
    """

    def __init__(self, device: str | Path) -> None:
        if isinstance(device, str):
            if not device or "/" in device or device.startswith("."):
                raise UsageError(f"{device!r} is not a device's name, such as tdx_guest")
            self.name = device
            self.identity = f"tsm-{device}"
            self.path = CLASS / device / _DIRECTORY
        else:
            self.path = device.absolute()
            whole = self.path.name == _DIRECTORY
            self.name = (self.path.parent.name if whole else self.path.name) or "tsm"
            self.identity = identity_of("tsm", self.path)

    def registers(self) -> tuple[Register, ...]:
        """The registers, by key. Raises MissingComponent, MalformedInput."""
        try:
            found = [(path.name, path.lstat()) for path in sorted(self.path.iterdir())]
        except OSError as error:
            devices = ", ".join(discover()) or "none"
            raise MissingComponent(
                f"{self.path}: {error.strerror}; devices with measurement registers: {devices}"
            ) from error
        return tuple(self._described(name, status) for name, status in found if stat.S_ISREG(status.st_mode))

    def read(self, register: Register) -> bytes:
        """The value, read from the device where it is live. Raises RegisterError, MissingComponent."""
        path = self.path / register.key
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                value = os.pread(descriptor, register.size + 1, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise device_error(path, error) from error
        if len(value) != register.size:
            raise RegisterError(f"{path}: gave {len(value)} of {register.size} bytes; list the registers again")
        return value

    def extend(self, register: Register, digest: bytes) -> bytes:
        """One ``write(2)`` of the digest, then the value, compared with what the hash chain leads to.

        A signal that comes while the kernel waits for its lock makes the write start over; the kernel has done
        nothing by then.
        """
        algorithm = check_extend(register, digest)
        expected = chain_extend(algorithm, self.read(register), digest)
        path = self.path / register.key
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                written = os.write(descriptor, digest)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise device_error(path, error) from error
        if written != register.size:
            raise RegisterError(f"{path}: the kernel took {written} of {register.size} bytes; read the register")
        value = self.read(register)
        if value != expected:
            raise ForeignExtend(
                f"{path}: extended, but its value is not the expected one: someone else extended it too; find out who"
            )
        return value

    def store(self, register: Register, value: bytes) -> None:
        """Not part of this interface. Raises RegisterReadOnly."""
        check_store(register, value)
        raise RegisterReadOnly(f"{self.path / register.key}: the kernel has no registers that can be stored")

    def _described(self, key: str, status: os.stat_result) -> Register:
        name, separator, algorithm = key.partition(":")
        try:
            found = hashes.by_name(algorithm) if separator else None
        except UsageError:
            found = None
        if separator and (found is None or found.name != algorithm):
            raise MalformedInput(
                str(self.path / key), offset=len(name) + 1, expected="a hash algorithm's name", found=repr(algorithm)
            )
        access = Access(0)
        if status.st_mode & stat.S_IRUSR:
            access |= Access.R
        if status.st_mode & stat.S_IWUSR:
            access |= Access.X | Access.W | Access.L
        return Register(name, status.st_size, found, access)
