"""boot_aggregate over platform configuration registers: the kernel's ``ima_calc_boot_aggregate``."""

from imarium.chain import aggregated_pcrs
from imarium.chain import pcr_aggregate as aggregate_of
from imarium.formats.members import BankValues
from imarium.hashes import HashAlgorithm
from imarium.verifier.attested import ExpectedAggregate

__all__ = ["pcr_aggregate"]


def pcr_aggregate(values: BankValues, bank: HashAlgorithm) -> ExpectedAggregate | None:
    """What boot_aggregate is over attested registers; None unless all are there. Raises MissingComponent."""
    digest = aggregate_of(values.get(bank, {}), bank)
    if digest is None:
        return None
    return ExpectedAggregate(digest, f"the attested PCRs 0 to {aggregated_pcrs(bank)[-1]} hash to {digest.hex()}")
