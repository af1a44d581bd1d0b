"""What every root of trust offers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from imarium.formats.registers import PcrIndex
from imarium.formats.tpm import PcrSelection, PcrValues
from imarium.hashes import HashAlgorithm

__all__ = ["Quote", "RootOfTrust"]


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote and what a verifier needs beside it.

    ``attest`` (TPMS_ATTEST), ``signature`` (TPMT_SIGNATURE) and ``ak`` (TPM2B_PUBLIC) are the device's own bytes.
    ``values`` are the registers' values that the quote's digest was taken over, in the order of its selection.
    """

    attest: bytes
    signature: bytes
    ak: bytes
    values: PcrValues


class RootOfTrust(Protocol):
    """A device that keeps registers, extends them, and signs statements about them.

    It is a context manager; leaving it closes the device. Every method raises DeviceError when the device refuses a
    command or breaks off, and UsageError for a register or bank that is not there.
    """

    @property
    def name(self) -> str:
        """The driver's name, such as ``tpm``."""

    @property
    def default_register(self) -> PcrIndex:
        """The register IMA extends on this kind of device unless told otherwise."""

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

    def close(self) -> None:
        """Gives everything back to the device. Closing twice does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
