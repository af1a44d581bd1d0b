"""boot_aggregate over platform configuration registers: the kernel's ``ima_calc_boot_aggregate``."""

from imarium.formats.members import BankValues
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA1, HashAlgorithm
from imarium.verifier.attested import ExpectedAggregate

__all__ = ["AGGREGATED", "AGGREGATED_SHA1", "pcr_aggregate"]

AGGREGATED = 10
AGGREGATED_SHA1 = 8
"""How many PCRs, from 0 on, boot_aggregate is taken over."""


def pcr_aggregate(values: BankValues, bank: HashAlgorithm) -> ExpectedAggregate | None:
    """The hash of PCR 0 to 9, for SHA-1 0 to 7; None unless all are there. Raises MissingComponent."""
    pcrs = range(AGGREGATED_SHA1 if bank == SHA1 else AGGREGATED)
    of_bank = values.get(bank, {})
    if any(PcrIndex(pcr) not in of_bank for pcr in pcrs):
        return None
    digest = bank.digest(b"".join(of_bank[PcrIndex(pcr)] for pcr in pcrs))
    return ExpectedAggregate(digest, f"the attested PCRs 0 to {pcrs[-1]} hash to {digest.hex()}")
