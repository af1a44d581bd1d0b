"""What a policy rule and an event can be about: the kernel's hooks and access masks.

See the kernel's ``Documentation/ABI/testing/ima_policy``.
"""

from enum import Enum, IntFlag

__all__ = ["UNSEEN_HOOKS", "Access", "Hook"]


class Hook(Enum):
    """Where something is measured: the value is the word after ``func=``.

    A watch raises the first three. The others are raised by whoever does the thing, in an explicit call.
    """

    FILE_CHECK = b"FILE_CHECK"
    """A file is opened."""
    MMAP_CHECK = b"MMAP_CHECK"
    """A file is mapped to be executed. User space sees it being opened, and that it is an ELF file."""
    BPRM_CHECK = b"BPRM_CHECK"
    """A program is executed."""
    MODULE_CHECK = b"MODULE_CHECK"
    FIRMWARE_CHECK = b"FIRMWARE_CHECK"
    KEXEC_KERNEL_CHECK = b"KEXEC_KERNEL_CHECK"
    KEXEC_INITRAMFS_CHECK = b"KEXEC_INITRAMFS_CHECK"
    POLICY_CHECK = b"POLICY_CHECK"
    """A policy: a file of rules, or rules that were written (then there is no file)."""
    KEXEC_CMDLINE = b"KEXEC_CMDLINE"
    KEY_CHECK = b"KEY_CHECK"
    """A key is loaded into a keyring."""
    CRITICAL_DATA = b"CRITICAL_DATA"
    """Data under a label."""


UNSEEN_HOOKS: dict[bytes, str] = {
    b"CREDS_CHECK": "the credentials a program will run with are not known before it runs",
    b"MMAP_CHECK_REQPROT": "the protection a program asks for is known to the kernel alone",
    b"SETXATTR_CHECK": "it is about appraising",
}
"""Hooks the kernel knows and nothing in user space can stand for, with the reason."""


class Access(IntFlag):
    """What a file is opened for (the kernel's ``MAY_*``)."""

    NONE = 0
    EXEC = 1
    WRITE = 2
    READ = 4
    APPEND = 8
