"""What every root of trust offers, and what a TPM offers beyond that.

A root of trust owns measurement registers. Code that anchors a list, or makes evidence of it, uses :class:`RootOfTrust`
and so never knows which device it has; the protocols behind it are what some devices can do beyond that.
:class:`PcrDevice` is a TPM by its own terms.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import PcrSelection, PcrValues
from imarium.hashes import HashAlgorithm
from imarium.registers import Register

__all__ = [
    "CountsUpdates",
    "HasCaveat",
    "HasColumn",
    "HasProcesses",
    "HasUnknownBanks",
    "KeyedQuotes",
    "NativeQuote",
    "PcrDevice",
    "Quote",
    "RootOfTrust",
    "Values",
]

Values = dict[str, dict[HashAlgorithm, bytes]]
"""Values of registers, by the register's name and bank."""


@dataclass(frozen=True, slots=True)
class NativeQuote:
    """What a device says over a nonce, in its own encoding; nothing of it is encoded again.

    ``kind`` names the encoding: it chooses the appraiser. ``statement`` is what the device gave (TPMS_ATTEST, TDX
    quote, CCA token), ``beside`` what a verifier needs with it, by name: a signature, a key, certificates, an event
    log. ``values`` are those of the registers as read beside the quote, for whoever must replay to them; like all of
    it they are claims until they are appraised.
    """

    kind: str
    statement: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)
    values: Mapping[str, Mapping[HashAlgorithm, bytes]] = field(default_factory=dict)


class RootOfTrust(Protocol):
    """A device that keeps registers, extends them, and signs statements about them.

    Registers have text names, the same everywhere: ``10`` for PCR 10, ``rtmr2``, ``rem0``. Making the object touches
    no device; :meth:`init` does, and the other methods need it. It is a context manager that closes at its end.
    Methods raise DeviceError when the device refuses or breaks off, MissingComponent when it is not there, and
    UsageError for a register or bank that it has not.
    """

    @property
    def name(self) -> str:
        """The driver's name, such as ``tpm``."""

    @property
    def kind(self) -> str:
        """The kind of its quotes; the driver's name for most."""

    @property
    def identity(self) -> str:
        """A file name for this device, the same in every process, unlike that of every other of this machine."""

    @property
    def default_register(self) -> str:
        """The register that a list is anchored in unless told otherwise."""

    def init(self) -> None:
        """Open the device. Twice does nothing more."""

    def close(self) -> None:
        """Give everything back to the device. Twice does nothing."""

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The banks of the default register, in the device's order."""

    def registers(self) -> tuple[Register, ...]:
        """Every register with its flags; one for each bank where it has several."""

    def read(self, registers: Collection[str]) -> Values:
        """The values of these registers in all of their banks."""

    def extend(self, register: str, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """Extend a register: one digest for each of its banks, checked before anything is extended.

        Raises RefusedOperation for a register that cannot be extended.
        """

    def boot_aggregate(self, bank: HashAlgorithm) -> bytes:
        """The digest of a boot_aggregate record in this bank's algorithm; zeros where the device measures no boot.

        It is about the registers as they are now, so it is asked for before a list extends any of them.
        """

    def quote(self, nonce: bytes, registers: Collection[str] = ()) -> NativeQuote:
        """A statement over ``nonce``, which is bound as it is, never cut or padded.

        It covers at least ``registers``, by default the default one. Raises UsageError for a nonce of a wrong size,
        and RefusedOperation where the device cannot quote.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class CountsUpdates(Protocol):
    """A root of trust with a counter of its registers' updates."""

    def update_counter(self) -> int:
        """How often registers were updated since the device's reset, as the device counts it."""


@runtime_checkable
class HasCaveat(Protocol):
    """A root of trust that everyone who uses it has to be told something of."""

    @property
    def caveat(self) -> str:
        """What that is, in one line."""


@runtime_checkable
class HasColumn(Protocol):
    """A root of trust that has no PCRs, and whose registers have numbers of their own in a list's register column."""

    def column(self) -> PcrIndex | None:
        """That of its default register; None where it has none."""


@runtime_checkable
class HasProcesses(Protocol):
    """A root of trust that runs processes of its own, which a machine's policy may not be about."""

    @property
    def processes(self) -> tuple[int, ...]:
        """Their numbers."""


@runtime_checkable
class HasUnknownBanks(Protocol):
    """A root of trust that may have banks of algorithms imarium does not know."""

    def unknown_banks(self) -> tuple[str, ...]:
        """Their names, as the kernel has them."""


@runtime_checkable
class KeyedQuotes(Protocol):
    """A root of trust that quotes with a key kept outside of it, and in banks of the caller's choice."""

    @property
    def has_key(self) -> bool:
        """Whether there is a key to quote with."""

    def use_key(self, directory: Path) -> bool:
        """Quote with the key in ``directory``, made there first if there is none; whether it was made."""

    def use_banks(self, banks: Collection[HashAlgorithm]) -> None:
        """Quote in these banks."""

    def open_challenge(self, challenge: bytes) -> bytes:
        """The nonce that a verifier put into a challenge to this device and its key.

        Raises MalformedInput for what is no challenge, and DeviceError for one to another.
        """


@dataclass(frozen=True, slots=True)
class Quote:
    """A TPM's quote and what a verifier needs beside it.

    ``attest`` (TPMS_ATTEST), ``signature`` (TPMT_SIGNATURE) and ``ak`` (TPM2B_PUBLIC) are the device's own bytes.
    ``values`` are the registers' values that the quote's digest was taken over, in the order of its selection.
    """

    attest: bytes
    signature: bytes
    ak: bytes
    values: PcrValues


class PcrDevice(Protocol):
    """A TPM by its own terms: registers by number, quotes in their parts. It raises as a RootOfTrust does."""

    def banks(self) -> tuple[HashAlgorithm, ...]:
        """The banks that are there, in the device's order."""

    def read(
        self, registers: Collection[PcrIndex], banks: Collection[HashAlgorithm] | None = None
    ) -> dict[HashAlgorithm, dict[PcrIndex, bytes]]:
        """The values of ``registers`` in ``banks`` (all where None), all as of one moment."""

    def extend(self, register: PcrIndex, digests: Mapping[HashAlgorithm, bytes]) -> None:
        """Extends each named bank of ``register`` with its digest; banks that are not named stay as they are."""

    def quote(self, nonce: bytes, selection: PcrSelection) -> Quote:
        """A signed statement over the selected registers. ``nonce`` is bound into it as it is, never cut or padded."""

    def update_counter(self) -> int:
        """How often registers were updated since the device's reset, as the device counts it."""
