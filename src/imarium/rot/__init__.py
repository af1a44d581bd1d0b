"""Roots of trust: devices that keep registers and sign statements about them.

A driver imports the library it needs only when it is opened: not every machine has it. A driver of a third party
needs :class:`Driver` and :class:`RootOfTrust`; see docs/rot.md.
"""

from imarium.rot.ak_store import EndorsementKind, StoredKey, holds_key, load_key, save_key
from imarium.rot.anchor_state import AnchorError
from imarium.rot.anchors import Anchor, Anchors, AnchorStatus, Extending
from imarium.rot.protocol import (
    CountsUpdates,
    HasCaveat,
    HasColumn,
    HasProcesses,
    HasUnknownBanks,
    KeyedQuotes,
    NativeQuote,
    PcrDevice,
    Quote,
    RootOfTrust,
    Values,
)
from imarium.rot.registry import Choice, Driver, choose_root, default_root, drivers, open_root
from imarium.rot.root_registers import RootRegisters, open_register
from imarium.rot.tpm import Tpm
from imarium.rot.tpm_ak import EndorsementKey, KeyKind
from imarium.rot.tpm_root import TpmRoot
from imarium.rot.tpm_sysfs import read_sysfs

__all__ = [
    "Anchor",
    "AnchorError",
    "AnchorStatus",
    "Anchors",
    "Choice",
    "CountsUpdates",
    "Driver",
    "EndorsementKey",
    "EndorsementKind",
    "Extending",
    "HasCaveat",
    "HasColumn",
    "HasProcesses",
    "HasUnknownBanks",
    "KeyKind",
    "KeyedQuotes",
    "NativeQuote",
    "PcrDevice",
    "Quote",
    "RootOfTrust",
    "RootRegisters",
    "StoredKey",
    "Tpm",
    "TpmRoot",
    "Values",
    "choose_root",
    "default_root",
    "drivers",
    "holds_key",
    "load_key",
    "open_register",
    "open_root",
    "read_sysfs",
    "save_key",
]
