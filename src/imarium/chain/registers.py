"""A register's hash chain: its initial value, and what extends it.

TPM 2.0 Library, Part 1, section 17 (PCR operations); TCG PC Client Platform TPM Profile, section 4.6.2 (initial
values). A register holds one value per bank.
"""

from collections.abc import Mapping

from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm

__all__ = ["RegisterValues", "extend", "initial_value", "violation_digest"]

RegisterValues = Mapping[PcrIndex, Mapping[HashAlgorithm, bytes]]
"""Values of registers, by register and bank."""

_DYNAMIC_PCRS = range(17, 23)


def initial_value(pcr: PcrIndex, bank: HashAlgorithm) -> bytes:
    """The value of a PCR after TPM2_Startup(CLEAR): ones in PCR 17 to 22, which only a dynamic launch resets to zero,
    and zeros in the others.
    """
    return (b"\xff" if pcr in _DYNAMIC_PCRS else b"\0") * bank.size


def violation_digest(bank: HashAlgorithm) -> bytes:
    """What a violation extends in every bank instead of its all-zero template digest."""
    return b"\xff" * bank.size


def extend(bank: HashAlgorithm, value: bytes, digest: bytes) -> bytes:
    """The register's next value: the hash of its value and the digest."""
    return bank.digest(value + digest)
