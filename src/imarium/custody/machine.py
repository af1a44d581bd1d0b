"""This machine: the running kernel's boot id, and the registers that its measurement list is extended into."""

from collections.abc import Collection
from pathlib import Path

from imarium import durable
from imarium.chain import RegisterValues
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.formats.registers import PcrIndex
from imarium.hashes import HashAlgorithm
from imarium.rot.tpm_sysfs import read_sysfs
from imarium.securityfs.client import DIRECTORIES

__all__ = ["boot_id", "registers_of", "tpm_registers"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TPM = Path("/sys/class/tpm/tpm0")
TPM_PCRS = 24


def boot_id(path: Path = BOOT_ID) -> str:
    """The running kernel's boot id; another one after a kexec, too. Raises MissingComponent."""
    with durable.storage_errors(path):
        return path.read_text("ascii", "replace").strip()[:64]


def registers_of(directory: Path) -> ReadRegisters:
    """What reads the registers of the lists in ``directory``.

    Those of the kernel's own directory are the TPM's, if the kernel shows its PCRs. Of others nothing is known.
    """
    own = any(place.exists() and directory.resolve() == place.resolve() for place in DIRECTORIES)
    return tpm_registers() if own and any(TPM.glob("pcr-*")) else no_registers


def tpm_registers(root: Path = TPM) -> ReadRegisters:
    """What reads the PCRs of a TPM as the kernel shows them. It raises MissingComponent or MalformedInput.

    A list can name registers that no TPM has; those are left out.
    """

    def read(registers: Collection[PcrIndex]) -> RegisterValues:
        values: dict[PcrIndex, dict[HashAlgorithm, bytes]] = {}
        shown = [pcr for pcr in registers if pcr < TPM_PCRS]
        for bank, by_index in read_sysfs(root, shown).items():
            for pcr, value in by_index.items():
                values.setdefault(pcr, {})[bank] = value
        return values

    return read
