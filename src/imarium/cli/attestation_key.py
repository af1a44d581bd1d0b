"""The attestation key of commands that make evidence."""

from pathlib import Path

from imarium.cli.output import progress_console
from imarium.formats.tpm import SignatureScheme
from imarium.rot import KeyKind, StoredKey, Tpm, holds_key, load_key, save_key

__all__ = ["attestation_key"]


def attestation_key(directory: Path, tcti: str | None) -> StoredKey:
    """The key in ``directory``, made there first if there is none."""
    if not holds_key(directory):
        with Tpm(tcti) as tpm:
            save_key(directory, tpm.create_ak(KeyKind(SignatureScheme.ECDSA)))
        progress_console().print(f"made an attestation key; verifiers need {directory / 'ak.pub'}", soft_wrap=True)
    return load_key(directory)
