"""Roots of trust over a provider of measurement registers: what they share, whoever provides and whoever quotes."""

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from imarium.errors import RefusedOperation, UsageError
from imarium.hashes import HashAlgorithm
from imarium.registers import Provider, Register
from imarium.rot.protocol import NativeQuote, Values

__all__ = ["RegisterRoot"]


class RegisterRoot:
    """Registers without a quote; implements :class:`~imarium.rot.protocol.RootOfTrust`, for drivers to build on.

    ``default_register`` may be empty: then it is the first, by name, that can be extended.
    """

    name = "registers"
    kind = "registers"

    def __init__(self, provider: Provider, default_register: str = "") -> None:
        self._provider = provider
        self._default = default_register
        self._found: dict[str, dict[HashAlgorithm | None, Register]] | None = None

    @property
    def provider(self) -> Provider:
        """Who has the registers."""
        return self._provider

    @property
    def identity(self) -> str:
        """That of the provider: two drivers for one device share it."""
        return self._provider.identity

    @property
    def default_register(self) -> str:
        """As chosen; empty before :meth:`init` where it was left to the device."""
        return self._default

    def init(self) -> None:
        """Look at the registers. Raises MissingComponent, and UsageError if the default one is not there."""
        if self._found is not None:
            return
        found: dict[str, dict[HashAlgorithm | None, Register]] = {}
        for register in self._provider.registers():
            found.setdefault(register.name, {})[register.hash] = register
        if not self._default:
            self._default = next((name for name, of in found.items() if any(r.extensible for r in of.values())), "")
        if self._default and self._default not in found:
            raise UsageError(f"{self.name} has no register {self._default!r}; it has {', '.join(found)}")
        self._found = found

    def close(self) -> None:
        """Forget the registers."""
        self._found = None

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The hash algorithms of the default register."""
        return tuple(bank for bank in self._known().get(self._default, {}) if bank is not None)

    def registers(self) -> tuple[Register, ...]:
        """Every register of the provider."""
        return tuple(register for of in self._known().values() for register in of.values())

    def read(self, registers: Collection[str]) -> Values:
        """The values. Raises UsageError for a register that is not there or has no hash algorithm."""
        return {name: {bank: self._provider.read(register) for bank, register in self._of(name)} for name in registers}

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """One extend for each bank, after all of them were checked."""
        banks = self._of(register)
        for bank, found in banks:
            if not found.extensible:
                raise RefusedOperation(f"{self.name} cannot extend {found.key}; choose a run-time register")
            if len(digests.get(bank, b"")) != bank.size:
                raise UsageError(f"{found.key} needs a {bank.name} digest of {bank.size} bytes")
        if len(digests) != len(banks):
            raise UsageError(f"{register} has the banks {', '.join(bank.name for bank, _ in banks)}, and no other")
        for bank, found in banks:
            self._provider.extend(found, digests[bank])

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """Zeros: nothing is known about what booted."""
        return bytes(bank.size)

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """Raises RefusedOperation: these registers have nothing that signs them."""
        del nonce, registers
        raise RefusedOperation(f"{self.name} has registers but no quote; use a driver for this kind of device")

    def _number(self, prefix: str) -> int | None:
        """The number that the default register has behind ``prefix`` in its name; None where it is not called so."""
        name, number = self._default, self._default.removeprefix(prefix)
        return int(number) if number != name and number.isascii() and number.isdigit() else None

    def _known(self) -> Mapping[str, Mapping[HashAlgorithm | None, Register]]:
        if self._found is None:
            raise UsageError(f"{self.name} is not open; call init first")
        return self._found

    def _of(self, name: str) -> list[tuple[HashAlgorithm, Register]]:
        known = self._known()
        found = [(bank, register) for bank, register in known.get(name, {}).items() if bank is not None]
        if not found:
            raise UsageError(f"{self.name} has no register {name!r} with a hash; it has {', '.join(known) or 'none'}")
        return found
