"""A register's hash chain: its initial value, and what extends it.

TPM 2.0 Library, Part 1, section 17 (PCR operations); TCG PC Client Platform TPM Profile, section 4.6.2 (initial
values). A register holds one value per bank.
"""

from collections.abc import Mapping

from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, SHA256, SHA384, SHA512, SM3, HashAlgorithm

__all__ = ["RegisterValues", "extend", "initial_value", "violation_digest"]

RegisterValues = Mapping[PcrIndex, Mapping[HashAlgorithm, bytes]]
"""Values of registers, by register and bank."""

_DYNAMIC_PCRS = range(17, 23)
_MAPPED_BANKS = frozenset({SHA1, SHA256, SHA384, SHA512, SM3})
"""Banks for which the kernel's TPM driver knows a hash algorithm (its ``tpm2_hash_map``)."""


def initial_value(pcr: PcrIndex, bank: HashAlgorithm) -> bytes:
    """The value of a PCR after TPM2_Startup(CLEAR): ones in PCR 17 to 22, which only a dynamic launch resets to zero,
    and zeros in the others.
    """
    return (b"\xff" if pcr in _DYNAMIC_PCRS else b"\0") * bank.size


def violation_digest(bank: HashAlgorithm, *, padded: bool = False) -> bytes:
    """What a violation extends in a bank instead of its all-zero template digest: ones.

    A ``padded`` bank that the kernel cannot even map to a hash algorithm gets a SHA-1 digest's worth of ones and zeros
    behind them (the kernel's ``ima_init_digests``).
    """
    unmapped = padded and bank not in _MAPPED_BANKS
    return (b"\xff" * (SHA1.size if unmapped else bank.size)).ljust(bank.size, b"\0")


def extend(bank: HashAlgorithm, value: bytes, digest: bytes) -> bytes:
    """The register's next value: the hash of its value and the digest."""
    return bank.digest(value + digest)
