"""How far an anchor has come, in a file of its own: written before and after each extend.

The file has two slots of fixed size, written in turn, each one JSON document with a checksum and a number; the whole
slot with the highest number counts. If the slot that announces an extend is torn, that extend was not made; if the one
behind it is, the register tells that it was. A killed process loses nothing of either. They are not synced: where power
fails, most devices' registers are reset, and for the others the register no longer fits the file, which is reported.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imarium import durable, hashes
from imarium.errors import MalformedInput, UsageError
from imarium.formats.sealed import seal, unseal
from imarium.hashes import HashAlgorithm

__all__ = ["AnchorError", "AnchorState", "BankValues", "read_state", "write_state"]

BankValues = Mapping[HashAlgorithm, bytes]
"""One register's values, or the digests to extend it with, by bank."""

_SLOT = 4096


@dataclass(frozen=True, slots=True)
class AnchorError:
    """Why a root of trust lags: ``record`` is the first that is not in it, ``name`` such as ``tpm_error(257)``."""

    record: int
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class AnchorState:
    """An anchor in one ``life`` of its register.

    ``position`` records were extended, which made ``initial`` into ``value``. ``pending`` are the digests of the next
    one where its extend was begun. ``error`` is the first since it lags.
    """

    life: str
    position: int
    initial: BankValues
    value: BankValues
    pending: BankValues | None = None
    error: AnchorError | None = None
    number: int = 0


def read_state(path: Path) -> AnchorState | None:
    """The state, or None where there is no file or nothing was written whole. Raises MissingComponent."""
    if not durable.is_there(path):
        return None
    with durable.storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.pread(descriptor, 2 * _SLOT, 0)
        finally:
            os.close(descriptor)
    slots = [_decode(data[at : at + _SLOT]) for at in (0, _SLOT)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.number, default=None)


def write_state(path: Path, state: AnchorState) -> None:
    """Put the state in its slot. Raises MissingComponent, and MalformedInput for one that does not fit."""
    data = _encode(state)
    if len(data) > _SLOT:
        raise MalformedInput(str(path), offset=0, expected=f"at most {_SLOT} bytes of state", found=f"{len(data)}")
    with durable.storage_errors(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, durable.FILE_MODE)
        try:
            os.pwrite(descriptor, data.ljust(_SLOT), state.number % 2 * _SLOT)
        finally:
            os.close(descriptor)


def _encode(state: AnchorState) -> bytes:
    error = state.error
    body: dict[str, object] = {
        "number": state.number,
        "life": state.life,
        "position": state.position,
        "initial": _to_text(state.initial),
        "value": _to_text(state.value),
        "pending": None if state.pending is None else _to_text(state.pending),
        "error": None if error is None else [error.record, error.name, error.detail],
    }
    return seal(body)


def _decode(data: bytes) -> AnchorState | None:
    body = unseal(data)
    if body is None:
        return None
    try:
        error = None if body["error"] is None else AnchorError(*body["error"])
        pending = None if body["pending"] is None else _from_text(body["pending"])
        initial, value = _from_text(body["initial"]), _from_text(body["value"])
        return AnchorState(body["life"], int(body["position"]), initial, value, pending, error, int(body["number"]))
    except (ValueError, KeyError, TypeError, AttributeError, UsageError):
        return None


def _to_text(values: BankValues) -> dict[str, str]:
    return {bank.name: value.hex() for bank, value in values.items()}


def _from_text(values: Mapping[str, str]) -> dict[HashAlgorithm, bytes]:
    return {hashes.by_name(name): bytes.fromhex(value) for name, value in values.items()}
