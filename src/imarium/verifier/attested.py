"""What the appraiser of a root of trust hands to the steps after it, which are the same for every kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from imarium.chain import RegisterValues
from imarium.formats.members import BankValues
from imarium.formats.registers import LIST_PCRS, PcrIndex
from imarium.hashes import SHA1, HashAlgorithm
from imarium.verifier.reason import Reason

__all__ = ["AS_LISTED", "Attested", "ExpectedAggregate", "Life", "Request", "by_register", "check_strength"]

AS_LISTED: Mapping[PcrIndex, PcrIndex] = {PcrIndex(column): PcrIndex(column) for column in range(LIST_PCRS)}
"""Columns of a list whose number is that of the register."""


@dataclass(frozen=True, slots=True)
class Request:
    """What evidence is asked for: over ``nonce``, with the registers the caller or the state names."""

    nonce: bytes
    registers: frozenset[PcrIndex]


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the registers, as far as a quote tells it.

    ``root`` identifies the root of trust. ``resets`` differs between two lives and ``clock``, in units of its own,
    only grows within one; both are 0 where a quote has nothing of the kind. ``stranger`` is the reason to give where
    a state is of another root of trust.
    """

    kind: str
    root: bytes
    resets: int
    clock: int
    stranger: Reason


@dataclass(frozen=True, slots=True)
class ExpectedAggregate:
    """What boot_aggregate has to be: ``digest``, and in words where that comes from."""

    digest: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Attested:
    """Facts: what a root of trust that is trusted has stated over the nonce.

    ``values`` are the values of registers, all in the same banks. ``required`` are the registers that a list has to
    account for. ``columns`` tells which register the records with a number in the list's register column went into;
    what it does not name went into none. ``initial`` has values that registers had before the list's first record,
    where these are not the initial values of a TPM's. ``aggregate`` gives what boot_aggregate has to be in a bank, or
    None where that cannot be told, and raises MissingComponent. ``resettable`` registers prove no history.
    """

    values: RegisterValues
    required: frozenset[PcrIndex]
    life: Life
    aggregate: Callable[[HashAlgorithm], ExpectedAggregate | None]
    columns: Mapping[PcrIndex, PcrIndex] = field(default_factory=lambda: AS_LISTED)
    initial: RegisterValues = field(default_factory=dict)
    resettable: frozenset[PcrIndex] = frozenset()

    @property
    def banks(self) -> frozenset[HashAlgorithm]:
        """Every bank in which a register is attested."""
        return frozenset(bank for of_register in self.values.values() for bank in of_register)


def by_register(values: BankValues) -> RegisterValues:
    """The same values by register, then bank."""
    registers = sorted({register for of_bank in values.values() for register in of_bank})
    return {
        register: {bank: of_bank[register] for bank, of_bank in values.items() if register in of_bank}
        for register in registers
    }


def check_strength(values: BankValues, register: PcrIndex) -> list[Reason]:
    """``register`` is attested in a bank stronger than SHA-1."""
    if any(bank != SHA1 and register in of_bank for bank, of_bank in values.items()):
        return []
    return [Reason("bank_weak", "the list's register is attested in the SHA-1 bank only: quote the SHA-256 bank too")]
