"""What every owner of measurement registers offers, and how one is found by name."""

import hashlib
import os
from pathlib import Path
from typing import Protocol

from imarium.errors import UsageError
from imarium.hashes import HashAlgorithm
from imarium.registers.description import Register
from imarium.registers.errors import RegisterReadOnly

__all__ = ["Provider", "check_extend", "check_store", "find_register", "identity_of"]


class Provider(Protocol):
    """A device with registers, or what stands for one. Each method may raise RegisterError and MissingComponent."""

    @property
    def name(self) -> str:
        """What it is called in the tree, such as ``tdx_guest``."""

    @property
    def identity(self) -> str:
        """A file name that tells it from every other provider of this machine."""

    def registers(self) -> tuple[Register, ...]:
        """The registers it has, by key. Raises MalformedInput for one that cannot be understood."""

    def read(self, register: Register) -> bytes:
        """The register's value now: ``register.size`` bytes."""

    def extend(self, register: Register, digest: bytes) -> bytes:
        """Make the value the hash of itself and ``digest``; the new value.

        Raises RegisterReadOnly, UsageError for a digest of another size (both before anything was done), and
        ForeignExtend if the register then has another value than this leads to.
        """

    def store(self, register: Register, value: bytes) -> None:
        """Replace the value of a register that is writable and not extensible. Raises as :meth:`extend`."""


def identity_of(kind: str, place: Path | str) -> str:
    """The ``identity`` of what is at ``place``: the same for every name of a path, and for one text that is no path."""
    name = os.path.realpath(place) if isinstance(place, Path) else place
    return f"{kind}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def find_register(provider: Provider, name: str) -> Register:
    """The register called ``name``, with or without ``:HASH``. Raises UsageError."""
    registers = provider.registers()
    exact = [register for register in registers if register.key == name]
    found = exact or [register for register in registers if register.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{name} is several registers; name one of {', '.join(each.key for each in found)}")
    raise UsageError(f"{provider.name} has no register {name}; it has {', '.join(each.key for each in registers)}")


def check_extend(register: Register, digest: bytes) -> HashAlgorithm:
    """The hash algorithm to extend with.

    Raises RegisterReadOnly if the register is not extensible, UsageError if the digest is not of its size.
    """
    if register.hash is None or not register.extensible:
        raise RegisterReadOnly(f"{register.key} cannot be extended; choose a run-time register")
    _check_size(register, digest, "digest")
    return register.hash


def check_store(register: Register, value: bytes) -> None:
    """Raises RegisterReadOnly if the register cannot be stored, UsageError if the value is not of its size."""
    if register.extensible or not register.writable:
        raise RegisterReadOnly(f"{register.key} cannot be stored; its flags are {register.access.letters}")
    _check_size(register, value, "value")


def _check_size(register: Register, data: bytes, what: str) -> None:
    if len(data) != register.size:
        raise UsageError(f"{register.key} takes a {what} of {register.size} bytes, not {len(data)}")
