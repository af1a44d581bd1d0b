"""PCR values as the kernel shows them, for callers that need no more and have no TSS.

``/sys/class/tpm/tpmN/pcr-ALG/INDEX``, one line of hexadecimal digits each; since Linux 5.12, with CONFIG_TCG_TPM.
Each file is one command to the TPM: the values need not be of one moment.
"""

from collections.abc import Collection
from pathlib import Path

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.registers import PcrIndex
from imarium.formats.tpm.selection import MAX_PCRS
from imarium.hashes import ALGORITHMS, HashAlgorithm

__all__ = ["read_sysfs"]

_MAX_FILE = 4096


def read_sysfs(
    root: Path = Path("/sys/class/tpm/tpm0"), registers: Collection[PcrIndex] | None = None
) -> dict[HashAlgorithm, dict[PcrIndex, bytes]]:
    """The values of ``registers`` (all where None) in every bank the kernel shows and imarium knows.

    Raises MissingComponent if the kernel shows no PCRs there or a file cannot be read, MalformedInput for a file
    that does not hold a digest of its bank.
    """
    wanted = range(MAX_PCRS) if registers is None else sorted(set(registers))
    values: dict[HashAlgorithm, dict[PcrIndex, bytes]] = {}
    for bank in ALGORITHMS:
        directory = root / f"pcr-{bank.name}"
        if not bank.tcg_id or not durable.is_there(directory):
            continue
        values[bank] = {
            PcrIndex(index): _read(directory / str(index), bank)
            for index in wanted
            if registers is not None or durable.is_there(directory / str(index))
        }
    if not values:
        raise MissingComponent(f"the kernel shows no PCRs in {root}: there is no TPM 2.0, or Linux is older than 5.12")
    return values


def _read(path: Path, bank: HashAlgorithm) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("ascii", "replace").strip()
    except OSError as error:
        raise MissingComponent(f"cannot read {path}: {error.strerror}; give a register this TPM has") from error
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != bank.size:
        what = f"{path.parent.name}/{path.name}"
        raise MalformedInput(what, offset=0, expected=f"{2 * bank.size} hexadecimal digits", found=repr(text[:140]))
    return value
