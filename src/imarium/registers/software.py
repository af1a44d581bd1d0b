"""Registers that imarium keeps itself, in memory or in a file: for tests, and for machines without a device.

Whoever can write the file can set the registers, so they prove nothing to anyone else. The file is one JSON document
with a checksum, replaced whole and durably under a lock beside it.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from imarium import durable, hashes
from imarium.chain import extend as chain_extend
from imarium.errors import MalformedInput, MissingComponent, RefusedOperation, UsageError
from imarium.formats.sealed import seal, unseal
from imarium.hashes import SHA384
from imarium.locks import locked
from imarium.registers.description import Access, Register
from imarium.registers.provider import check_extend, check_store, identity_of

__all__ = ["DEFAULT_REGISTERS", "FileRegisters", "MemoryRegisters"]

DEFAULT_REGISTERS: tuple[Register, ...] = (
    Register("mrtd", SHA384.size, SHA384, Access.R),
    *(Register(f"rtmr{index}", SHA384.size, SHA384, Access.RTMR | Access.W) for index in range(4)),
)
"""Named after those of a TDX guest, and like them of SHA-384."""

_MAX_FILE = 1 << 20
_FORMAT = "imarium software registers 1"

_Values = dict[Register, bytes]


def _initial(registers: Iterable[Register]) -> _Values:
    values = {register: bytes(register.size) for register in registers}
    if len({register.key for register in values}) != len(values):
        raise UsageError("two registers have the same name and hash; give each another name")
    return dict(sorted(values.items(), key=lambda item: item[0].key))


class MemoryRegisters:
    """Registers in memory, all zero at first or as ``values`` says. Not to be shared between threads."""

    def __init__(
        self, registers: Iterable[Register] = DEFAULT_REGISTERS, values: Mapping[Register, bytes] | None = None
    ) -> None:
        self.name = "software"
        self.identity = "memory"
        self._values = _initial(registers) | dict(values or {})

    def registers(self) -> tuple[Register, ...]:
        """All of them, by key."""
        return tuple(self._values)

    def read(self, register: Register) -> bytes:
        """The value. Raises UsageError for a register that is not one of these."""
        return _value(self._values, register)

    def extend(self, register: Register, digest: bytes) -> bytes:
        """The new value. Raises RegisterReadOnly, UsageError."""
        self._values[register] = value = _extended(self._values, register, digest)
        return value

    def store(self, register: Register, value: bytes) -> None:
        """Replace the value. Raises RegisterReadOnly, UsageError."""
        check_store(register, value)
        self._values[register] = value


class FileRegisters:
    """Registers in the file at ``path``, shared by any number of processes. Raises UsageError for the root directory.

    Every method raises MissingComponent when the file is not there or cannot be written, and MalformedInput when it
    is not one of these.
    """

    def __init__(self, path: Path) -> None:
        self.name = "software"
        self.path = Path(os.path.realpath(path))  # a link is followed once, else a replacement would take its place
        if not self.path.name:
            raise UsageError(f"{path} is the root directory; name a file in a directory for the registers")
        self.identity = identity_of("software", self.path)
        self._lock_path = self.path.with_name(f".{self.path.name}.lock")

    @classmethod
    def create(cls, path: Path, registers: Iterable[Register] = DEFAULT_REGISTERS) -> "FileRegisters":
        """Make the file, with all registers zero. Raises RefusedOperation if it is there already."""
        made = cls(path)
        values = _initial(registers)
        durable.create_directory(made.path.parent)
        with locked(made._lock_path):
            if durable.is_there(made.path):
                raise RefusedOperation(f"{path} is there already; choose another file")
            durable.replace_file(made.path, _encode(values))
        return made

    def registers(self) -> tuple[Register, ...]:
        """All of them, by key."""
        return tuple(self._load())

    def read(self, register: Register) -> bytes:
        """The value. Raises UsageError for a register that is not one of these."""
        return _value(self._load(), register)

    def extend(self, register: Register, digest: bytes) -> bytes:
        """The new value, on stable storage. Raises RegisterReadOnly, UsageError."""
        check_extend(register, digest)
        with locked(self._lock_path):
            values = self._load()
            values[register] = value = _extended(values, register, digest)
            durable.replace_file(self.path, _encode(values))
        return value

    def store(self, register: Register, value: bytes) -> None:
        """Replace the value, durably. Raises RegisterReadOnly, UsageError."""
        check_store(register, value)
        with locked(self._lock_path):
            values = self._load()
            _value(values, register)
            values[register] = value
            durable.replace_file(self.path, _encode(values))

    def _load(self) -> _Values:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except FileNotFoundError as error:
            raise MissingComponent(f"{self.path}: not there; make it with imarium registers create") from error
        except OSError as error:
            raise MissingComponent(f"{self.path}: {error.strerror}; give access, or name another file") from error
        return _decode(data, str(self.path))


def _value(values: Mapping[Register, bytes], register: Register) -> bytes:
    try:
        return values[register]
    except KeyError:
        raise UsageError(f"there is no register {register.key} here; list the registers again") from None


def _extended(values: Mapping[Register, bytes], register: Register, digest: bytes) -> bytes:
    algorithm = check_extend(register, digest)
    return chain_extend(algorithm, _value(values, register), digest)


def _encode(values: Mapping[Register, bytes]) -> bytes:
    entries = [
        {"name": r.name, "size": r.size, "hash": r.hash and r.hash.name, "access": int(r.access), "value": value.hex()}
        for r, value in values.items()
    ]
    return seal({"format": _FORMAT, "registers": entries}, indent=1) + b"\n"


def _decode(data: bytes, place: str) -> _Values:
    body = unseal(data) if len(data) <= _MAX_FILE else None
    if body is None or body.get("format") != _FORMAT:
        raise _malformed(place)
    try:
        values = {_described(entry): bytes.fromhex(entry["value"]) for entry in body["registers"]}
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise _malformed(place) from error
    if any(len(value) != register.size for register, value in values.items()):
        raise _malformed(place)
    return values


def _malformed(place: str) -> MalformedInput:
    return MalformedInput(place, offset=0, expected="software registers and their checksum", found="something else")


def _described(entry: Mapping[str, object]) -> Register:
    name, size, algorithm, access = entry["name"], entry["size"], entry["hash"], entry["access"]
    if not (isinstance(name, str) and isinstance(size, int) and isinstance(access, int)):
        raise TypeError("not a register")
    return Register(name, size, None if algorithm is None else hashes.by_name(str(algorithm)), Access(access))
