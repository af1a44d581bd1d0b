"""boot_aggregate over platform configuration registers: the kernel's ``ima_calc_boot_aggregate``."""

from collections.abc import Mapping

from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, HashAlgorithm

__all__ = ["aggregated_pcrs", "pcr_aggregate"]


def aggregated_pcrs(bank: HashAlgorithm) -> tuple[PcrIndex, ...]:
    """The registers it is taken over: 0 to 7 for SHA-1, 0 to 9 for any other algorithm."""
    return tuple(PcrIndex(pcr) for pcr in range(8 if bank == SHA1 else 10))


def pcr_aggregate(values: Mapping[PcrIndex, bytes], bank: HashAlgorithm) -> bytes | None:
    """The hash over their values in one bank; None unless all are there. Raises MissingComponent."""
    pcrs = aggregated_pcrs(bank)
    if any(pcr not in values for pcr in pcrs):
        return None
    return bank.digest(b"".join(values[pcr] for pcr in pcrs))
