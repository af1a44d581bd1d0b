"""Measurement registers: what they are, who provides them, their event logs, and their tree of files."""

from imarium.registers.description import Access, MrFlags, Register
from imarium.registers.errors import (
    ForeignExtend,
    LogBusy,
    RegisterBusy,
    RegisterError,
    RegisterFailed,
    RegisterInterrupted,
    RegisterReadOnly,
    RegisterUnavailable,
    TextTooLong,
)
from imarium.registers.eventlog import Appended, EventLog
from imarium.registers.logs import LoggedProvider, default_directory
from imarium.registers.provider import Provider, find_register
from imarium.registers.replay import Gap, Verification, verify
from imarium.registers.software import DEFAULT_REGISTERS, FileRegisters, MemoryRegisters
from imarium.registers.tree import RegisterTree
from imarium.registers.tsm import TsmRegisters, discover

__all__ = [
    "DEFAULT_REGISTERS",
    "Access",
    "Appended",
    "EventLog",
    "FileRegisters",
    "ForeignExtend",
    "Gap",
    "LogBusy",
    "LoggedProvider",
    "MemoryRegisters",
    "MrFlags",
    "Provider",
    "Register",
    "RegisterBusy",
    "RegisterError",
    "RegisterFailed",
    "RegisterInterrupted",
    "RegisterReadOnly",
    "RegisterTree",
    "RegisterUnavailable",
    "TextTooLong",
    "TsmRegisters",
    "Verification",
    "default_directory",
    "discover",
    "find_register",
    "verify",
]
