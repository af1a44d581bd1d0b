"""Roots of trust: devices that keep registers and sign statements about them.

A driver imports the library it needs only when it is opened: not every machine has it.
"""

from imarium.rot.ak_store import EndorsementKind, StoredKey, holds_key, load_key, save_key
from imarium.rot.protocol import Quote, RootOfTrust
from imarium.rot.tpm import Tpm
from imarium.rot.tpm_ak import KeyKind
from imarium.rot.tpm_sysfs import read_sysfs

__all__ = [
    "EndorsementKind",
    "KeyKind",
    "Quote",
    "RootOfTrust",
    "StoredKey",
    "Tpm",
    "holds_key",
    "load_key",
    "read_sysfs",
    "save_key",
]
