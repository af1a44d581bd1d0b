"""This machine: its boot id, what tells its lives apart, and the registers its list is extended into."""

from collections.abc import Collection
from pathlib import Path

from imarium import durable
from imarium.chain import RegisterValues
from imarium.custody.life import Machine, ReadMachine
from imarium.custody.proof import ReadRegisters, no_registers
from imarium.formats.members import BankValues
from imarium.formats.registers import PcrIndex
from imarium.hashes import SHA256, HashAlgorithm
from imarium.rot import Tpm
from imarium.rot.tpm_clock import read_clock
from imarium.rot.tpm_sysfs import read_sysfs
from imarium.securityfs.client import DIRECTORIES

__all__ = ["boot_id", "machine_of", "named_registers", "read_machine", "registers_of", "tpm_registers"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TPM = Path("/sys/class/tpm/tpm0")
TPM_PCRS = 24
_NAMES = (Path("/etc/machine-id"), Path("/sys/class/dmi/id/product_uuid"))
_DIGITS = 32


def boot_id(path: Path = BOOT_ID) -> str:
    """The running kernel's boot id; another one after a kexec, too. Raises MissingComponent."""
    with durable.storage_errors(path):
        return path.read_text("ascii", "replace").strip()[:64]


def read_machine() -> Machine:
    """What tells this life of this machine from another, as far as it can be read."""
    name, product = map(_digest_of, _NAMES)
    clock = read_clock()
    if clock is None:
        return Machine(boot_id(), name, product)
    return Machine(boot_id(), name, product, clock.reset_count, clock.restart_count, clock.clock)


def machine_of(directory: Path) -> ReadMachine | None:
    """What tells the life of the lists in ``directory``: the machine's for the kernel's own, nothing for others."""
    return read_machine if _is_own(directory) else None


def _is_own(directory: Path) -> bool:
    return any(directory.resolve() == place.resolve() for place in DIRECTORIES)


def _digest_of(path: Path) -> str:
    """A digest of a short file's text; empty if it has none or cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(256).strip()
    except OSError:
        return ""
    return SHA256.digest(text).hex()[:_DIGITS] if text else ""


def registers_of(directory: Path, tcti: str | None = None) -> ReadRegisters:
    """What reads the registers of the lists in ``directory``.

    Those of the kernel's own directory are the TPM's, if the kernel shows its PCRs. Others are extended by who serves
    them: into the TPM that ``tcti`` names, or nothing is known of them.
    """
    if _is_own(directory):
        return tpm_registers() if any(TPM.glob("pcr-*")) else no_registers
    return no_registers if tcti is None else named_registers(tcti)


def named_registers(tcti: str) -> ReadRegisters:
    """What reads the PCRs of the TPM of this name. It raises MissingComponent or DeviceError."""

    def read(registers: Collection[PcrIndex]) -> RegisterValues:
        with Tpm(tcti) as tpm:
            return _by_register(tpm.read([pcr for pcr in registers if pcr < TPM_PCRS]))

    return read


def tpm_registers(root: Path = TPM) -> ReadRegisters:
    """What reads the PCRs of a TPM as the kernel shows them. It raises MissingComponent or MalformedInput.

    A list can name registers that no TPM has; those are left out.
    """

    def read(registers: Collection[PcrIndex]) -> RegisterValues:
        return _by_register(read_sysfs(root, [pcr for pcr in registers if pcr < TPM_PCRS]))

    return read


def _by_register(values: BankValues) -> RegisterValues:
    found: dict[PcrIndex, dict[HashAlgorithm, bytes]] = {}
    for bank, by_index in values.items():
        for pcr, value in by_index.items():
            found.setdefault(pcr, {})[bank] = value
    return found
