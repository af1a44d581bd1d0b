"""What a log does not say about itself: ``meta.json``, written once when the log is begun."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imarium import durable, hashes
from imarium.custody.entry import Damaged
from imarium.errors import MalformedInput, UsageError
from imarium.formats.fields import ByteOrder
from imarium.hashes import HashAlgorithm

__all__ = ["META_VERSION", "LogMeta", "LogStart", "read_meta"]

META_VERSION = 1
_TYPE = "imarium-log"
_MAX_SIZE = 1 << 16

LogStart = Literal["reset", "unknown"]
"""``reset``: record 0 is the first since the registers' reset. ``unknown``: records before it are missing."""


@dataclass(frozen=True, slots=True)
class LogMeta:
    """Facts about a log. ``padded`` are banks that the kernel extends with padded SHA-1 digests."""

    byte_order: ByteOrder
    created: str
    boot_id: str
    start: LogStart
    reason: str
    padded: frozenset[HashAlgorithm] = frozenset()

    @property
    def identity(self) -> bytes:
        """16 bytes that tell this log from others: the sum in ``meta.json``."""
        return bytes.fromhex(_checksum(self._document()))

    def to_bytes(self) -> bytes:
        """The content of ``meta.json``."""
        document = self._document()
        document["sum"] = _checksum(document)
        return json.dumps(document, indent=2).encode() + b"\n"

    def _document(self) -> dict[str, object]:
        return {
            "type": _TYPE,
            "version": META_VERSION,
            "byte_order": self.byte_order,
            "created": self.created,
            "boot_id": self.boot_id,
            "start": self.start,
            "reason": self.reason,
            "padded": sorted(bank.name for bank in self.padded),
        }


def read_meta(path: Path) -> LogMeta:
    """Read ``meta.json``. Raises Damaged, MalformedInput for one of another version, MissingComponent."""
    if durable.size_of(path) > _MAX_SIZE:
        raise _damaged(path, f"at most {_MAX_SIZE} bytes", "more")
    with durable.storage_errors(path):
        data = path.read_bytes()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _damaged(path, "a JSON object", "something else") from None
    if not isinstance(document, dict) or document.get("type") != _TYPE:
        raise _damaged(path, f"a JSON object with type {_TYPE!r}", "something else")
    try:
        is_good = document.pop("sum", None) == _checksum(document)
    except RecursionError:  # what can be read can still be nested too deep to be written
        is_good = False
    if not is_good:
        raise _damaged(path, "the checksum of its content", "another")
    if document.get("version") != META_VERSION:
        raise _malformed(path, f"version {META_VERSION}", repr(document.get("version"))[:40])
    return _meta(path, document)


def _meta(path: Path, document: Mapping[str, object]) -> LogMeta:
    order, start = document.get("byte_order"), document.get("start")
    if order not in ("little", "big") or start not in ("reset", "unknown"):
        raise _malformed(path, "a byte order and a start", f"{order!r} and {start!r}"[:80])
    names = document.get("padded")
    try:
        padded = frozenset(hashes.by_name(str(name)) for name in names) if isinstance(names, list) else frozenset()
    except UsageError:
        raise _malformed(path, "names of banks", repr(names)[:40]) from None
    created, boot_id, reason = (str(document.get(name, "")) for name in ("created", "boot_id", "reason"))
    return LogMeta(
        "little" if order == "little" else "big",
        created,
        boot_id,
        "reset" if start == "reset" else "unknown",
        reason,
        padded,
    )


def _checksum(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, separators=(",", ":"), sort_keys=True).encode()).hexdigest()[:32]


def _malformed(path: Path, expected: str, found: str) -> MalformedInput:
    return MalformedInput(str(path), offset=0, expected=expected, found=found)


def _damaged(path: Path, expected: str, found: str) -> Damaged:
    return Damaged(str(path), offset=0, expected=expected, found=found)
