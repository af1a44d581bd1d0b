"""The two kinds of crypto-agile event logs, as data, and the names of their events.

TCG PC Client Platform Firmware Profile, section 10 (event logging); UEFI specification, section 38.4 (confidential
computing); ACPI specification, section 5.2.34 (CCEL).
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from imarium.formats.registers import PcrIndex
from imarium.formats.tdx.registers import MRTD_EVENT_INDEX, CcEventIndex

__all__ = ["CC_LOG", "EV_EVENT_TAG", "EV_NO_ACTION", "EV_SEPARATOR", "TPM_LOG", "Index", "LogKind", "event_type_name"]

Index = TypeVar("Index", PcrIndex, CcEventIndex)

EV_NO_ACTION = 0x3
"""An event that informs and extends nothing."""

EV_SEPARATOR = 0x4
"""Ends what one stage of the boot measures."""

EV_EVENT_TAG = 0x6
"""An operating system's or application's own event, which begins with a tag."""

_NAMES = {
    0x0: "EV_PREBOOT_CERT",
    0x1: "EV_POST_CODE",
    0x2: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    EV_SEPARATOR: "EV_SEPARATOR",
    0x5: "EV_ACTION",
    EV_EVENT_TAG: "EV_EVENT_TAG",
    0x7: "EV_S_CRTM_CONTENTS",
    0x8: "EV_S_CRTM_VERSION",
    0x9: "EV_CPU_MICROCODE",
    0xA: "EV_PLATFORM_CONFIG_FLAGS",
    0xB: "EV_TABLE_OF_DEVICES",
    0xC: "EV_COMPACT_HASH",
    0xD: "EV_IPL",
    0xE: "EV_IPL_PARTITION_DATA",
    0xF: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x13: "EV_POST_CODE2",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}


@dataclass(frozen=True, slots=True)
class LogKind(Generic[Index]):
    """What tells one kind of log from the other.

    Registers are counted from 0 to ``registers`` - 1. ``fixed`` is one that no event may extend, ``started`` the one
    whose first value the locality of TPM2_Startup decides. ``padded`` logs lie in an area that is larger than they
    are.
    """

    name: str
    registers: int
    fixed: Index | None
    started: Index | None
    padded: bool


TPM_LOG: LogKind[PcrIndex] = LogKind("TPM event log", 24, None, PcrIndex(0), padded=False)
"""``binary_bios_measurements``: firmware's log of PCRs."""

CC_LOG: LogKind[CcEventIndex] = LogKind("CC event log", 5, MRTD_EVENT_INDEX, None, padded=True)
"""The area the CCEL table points to, or ``/sys/firmware/acpi/tables/data/CCEL``: firmware's log of RTMRs."""


def event_type_name(number: int) -> str:
    """The name of an event type, such as ``EV_SEPARATOR``, or ``0x8000ffff`` for one the TCG has no name for."""
    return _NAMES.get(number, f"{number:#010x}")
