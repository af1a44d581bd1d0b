"""Critical data that an engine measures of itself: names, labels and texts."""

import os

from imarium.rot import CountsUpdates, RootOfTrust

__all__ = [
    "COUNTER_AT_INIT",
    "COUNTER_AT_KEXEC",
    "COUNTER_AT_STAGING",
    "COUNTER_LABEL",
    "KERNEL_LABEL",
    "KERNEL_VERSION",
    "KEXEC_EXECUTE",
    "KEXEC_LABEL",
    "KEXEC_LOAD",
    "POLICY_LABEL",
    "POLICY_LOADED",
    "POLICY_WRITTEN",
    "counter_text",
    "kernel_version",
]

KERNEL_LABEL, KERNEL_VERSION = b"kernel_info", b"kernel_version"
KEXEC_LABEL, KEXEC_LOAD, KEXEC_EXECUTE = b"ima_kexec", b"kexec_load", b"kexec_execute"
POLICY_LABEL, POLICY_LOADED, POLICY_WRITTEN = b"ima_policy", b"ima_policy_loaded", b"ima_policy_written"
COUNTER_LABEL = b"tpm_pcr_update_counter"
COUNTER_AT_INIT = b"ima_init_tpm_update_counter"
COUNTER_AT_KEXEC = b"kexec_load_tpm_update_counter"
COUNTER_AT_STAGING = b"stage_tpm_update_counter"
"""The first two are those of the series that proposed the counter; staging is our own."""


def kernel_version() -> bytes:
    """The running kernel's release."""
    return os.uname().release.encode()


def counter_text(root: RootOfTrust) -> bytes | None:
    """The text that says how often the registers were updated; None for a root of trust that does not count.

    Raises DeviceError, MissingComponent.
    """
    return b"update_counter=%d;" % root.update_counter() if isinstance(root, CountsUpdates) else None
