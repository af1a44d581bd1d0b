"""What a bridge writes down: the register's value before its first extend, and how far it has come.

One small JSON document with a checksum, replaced whole and durably. It is never read again while a bridge runs, nor
opened for reading to be synced: IMA would measure that, and each note would make another record to extend.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imarium import durable
from imarium.errors import MalformedInput, MissingComponent
from imarium.formats.records import Frame
from imarium.formats.sealed import seal, unseal
from imarium.locks import locked
from imarium.registers import Provider, Register

__all__ = ["TAIL", "BridgeBusy", "BridgeState", "StateFile", "fingerprint"]

TAIL = 16
"""How many of the last records are remembered, to find the place again in a list that was drained."""

_FORMAT = "imarium bridge 1"
_MAX_FILE = 1 << 16
_FINGERPRINT = 16


class BridgeBusy(MissingComponent):
    """Another bridge feeds this register."""

    code = "bridge_busy"


@dataclass(frozen=True, slots=True)
class BridgeState:
    """Where a bridge stands: ``records`` records of the log led the register from ``initial`` to ``value``.

    ``boot_id`` is that of the kernel then; ``tail`` has the fingerprints of the last records, at most :data:`TAIL`.
    """

    boot_id: str
    initial: bytes
    records: int
    value: bytes
    tail: tuple[bytes, ...] = ()

    def after(self, frames: Sequence[Frame], value: bytes) -> "BridgeState":
        """The state after these further records, which led to ``value``."""
        tail = (*self.tail, *map(fingerprint, frames[-TAIL:]))[-TAIL:]
        return replace(self, records=self.records + len(frames), value=value, tail=tail)


def fingerprint(frame: Frame) -> bytes:
    """What tells a record from others: a hash of all of it."""
    pcr, digest, name, data = frame
    head = b"%d %s %d %s %d " % (pcr, digest.hex().encode(), len(name), name, len(data))
    return hashlib.sha256(head + data).digest()[:_FINGERPRINT]


class StateFile:
    """The file of one register's bridge in ``directory``.

    Raises MissingComponent where the storage fails, MalformedInput for a file that is not what was written.
    """

    def __init__(self, directory: Path, provider: Provider, register: Register) -> None:
        self._register = register
        self.path = directory / f"{provider.identity}.{register.key}.bridge"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one bridge of this register; the lock ends with the process. Raises BridgeBusy."""
        durable.create_directory(self.path.parent)
        path = self.path.with_name(f".{self.path.name}.lock")
        with locked(path, busy=BridgeBusy(f"{path}: another bridge feeds {self._register.key}; end it first")):
            yield

    def load(self) -> BridgeState | None:
        """What was written last; None if nothing was."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MissingComponent(f"{self.path}: {error.strerror}; give access, or another --state") from error
        return _decode(data, self._register.size, str(self.path))

    def save(self, state: BridgeState) -> None:
        """Put it on stable storage: a crash leaves the old state or this one."""
        durable.replace_unread(self.path, _encode(state))


def _encode(state: BridgeState) -> bytes:
    body: dict[str, object] = {
        "format": _FORMAT,
        "boot_id": state.boot_id,
        "initial": state.initial.hex(),
        "records": state.records,
        "value": state.value.hex(),
        "tail": [each.hex() for each in state.tail],
    }
    return seal(body, indent=1) + b"\n"


def _decode(data: bytes, size: int, place: str) -> BridgeState:
    body = unseal(data) if len(data) <= _MAX_FILE else None
    if body is None or body.get("format") != _FORMAT:
        raise _malformed(place)
    try:
        initial, value = bytes.fromhex(body["initial"]), bytes.fromhex(body["value"])
        tail = tuple(map(bytes.fromhex, body["tail"]))
        state = BridgeState(str(body["boot_id"]), initial, int(body["records"]), value, tail)
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(place) from error
    fits = len(initial) == len(value) == size and len(tail) == min(TAIL, state.records)
    if not fits or any(len(each) != _FINGERPRINT for each in tail):
        raise _malformed(place)
    return state


def _malformed(place: str) -> MalformedInput:
    return MalformedInput(
        place,
        offset=0,
        expected="a bridge's state and its checksum; restore it, or give --begin",
        found="something else",
    )
