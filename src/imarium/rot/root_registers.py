"""The registers of any root of trust, one value at a time: for what feeds a register, not a root of trust."""

from imarium.chain import extend as chain_extend
from imarium.errors import ImariumError, UsageError
from imarium.registers import ForeignExtend, Provider, Register
from imarium.registers.provider import check_extend
from imarium.rot.protocol import RootOfTrust
from imarium.rot.register_root import RegisterRoot
from imarium.rot.registry import open_root

__all__ = ["RootRegisters", "open_register", "registers_of"]


class RootRegisters:
    """The registers of an open root of trust: a :class:`~imarium.registers.Provider`, with the root's own errors."""

    def __init__(self, root: RootOfTrust) -> None:
        self._root = root
        self.name = root.name
        self.identity = root.identity

    def registers(self) -> tuple[Register, ...]:
        """Those of the root of trust."""
        return self._root.registers()

    def read(self, register: Register) -> bytes:
        """The value. Raises UsageError for a register without a hash algorithm."""
        if register.hash is None:
            raise UsageError(f"{register.key} has no hash algorithm; name a run-time register")
        return self._root.read([register.name])[register.name][register.hash]

    def extend(self, register: Register, digest: bytes) -> bytes:
        """One extend, and the value after it. Raises ForeignExtend where that is not the one this extend leads to."""
        bank = check_extend(register, digest)
        expected = chain_extend(bank, self.read(register), digest)
        self._root.extend(register.name, {bank: digest})
        value = self.read(register)
        if value != expected:
            raise ForeignExtend(f"{register.key} was extended by someone else at the same time; find out who did")
        return value

    def store(self, register: Register, value: bytes) -> None:
        """Raises UsageError: a root of trust only extends."""
        del value
        raise UsageError(f"{self.name} stores no register such as {register.key}; extend it")


def registers_of(root: RootOfTrust) -> Provider:
    """The registers of an open root of trust: its own provider where it has one."""
    return root.provider if isinstance(root, RegisterRoot) else RootRegisters(root)


def open_register(name: str) -> tuple[RootOfTrust, Register]:
    """An open root of trust and one of its registers, by ``NAME`` or ``NAME:REGISTER``; without one, the default one.

    A part that is no register of NAME belongs to NAME. Raises UsageError also for a register of several banks, which
    are extended together or not at all, and what :func:`~imarium.rot.open_root` raises.
    """
    short, colon, last = name.rpartition(":")
    root = _opened(short) if colon else None
    if root is None or all(each.name != last for each in root.registers()):
        if root is not None:
            root.close()
        root = open_root(name)
        last = root.default_register
    found = [register for register in root.registers() if register.name == last]
    if len(found) != 1:
        root.close()
        banks = ", ".join(register.key for register in found) or "no register"
        raise UsageError(f"{name} is {banks}: name a register of one bank")
    return root, found[0]


def _opened(name: str) -> RootOfTrust | None:
    try:
        return open_root(name)
    except ImariumError:
        return None
